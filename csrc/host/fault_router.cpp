#include "host/fault_router.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>
#include <thread>

#include "core/errors.h"
#include "core/size_class.h"
#include "host/user_fault.h"

namespace swapmem::fault_router {

namespace {

struct Entry {
  std::atomic<Address> begin{0};
  std::atomic<Address> end{0};
  std::atomic<Engine*> engine{nullptr};
};

enum Outcome : int { pending = 0, served = 1, refused = 2 };

// Lives on the stack of the thread that touched.
struct Request {
  Address address;
  int thread;
  bool write;
  std::atomic<int> outcome{pending};
  char why[400] = {};
};

std::array<Entry, 16> entries;
std::mutex registry_mutex;  // of changes to `entries`; never taken in the handler
// Held while an engine serves a touch: the touching thread may go on, and the engine be given up,
// before the service thread has left it.
std::mutex serving_mutex;
int pipe_ends[2] = {-1, -1};
struct sigaction previous;
bool installed = false;

Engine* find(Address address) {
  for (Entry& entry : entries) {
    Engine* engine = entry.engine.load(std::memory_order_acquire);
    if (engine != nullptr && address >= entry.begin.load() && address < entry.end.load()) {
      return engine;
    }
  }
  return nullptr;
}

void futex(std::atomic<int>& word, int operation, int value) {
  syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

void serve(Request& request) {
  Engine* engine = find(request.address);
  std::string why;
  bool good = false;
  try {
    good = engine != nullptr && engine->fault(request.address, request.thread, request.write, why);
  } catch (const std::exception& error) {
    why = error.what();
  }
  std::strncpy(request.why, why.c_str(), sizeof request.why - 1);
  // The request is gone the moment its thread sees the outcome; the futex call is given an address
  // only.
  std::atomic<int>& word = request.outcome;
  word.store(good ? served : refused, std::memory_order_release);
  futex(word, FUTEX_WAKE, INT_MAX);
}

void serve(const user_fault::Touch& touch) {
  const Span page{touch.address / page_bytes * page_bytes, page_bytes};
  Engine* engine = find(touch.address);
  std::string why;
  bool good = false;
  try {
    good = engine != nullptr && engine->fault(touch.address, touch.thread, touch.write, why);
  } catch (const std::exception&) {
    // The signal handler asks again, and says why.
  }
  if (engine != nullptr && !good) {
    // Closed: user code gets a SIGSEGV, which tells; a system call EFAULT.
    mprotect(reinterpret_cast<void*>(page.address), page.bytes, PROT_NONE);
  }
  user_fault::wake(page);
}

void serve_all() {
  pollfd sources[2] = {{pipe_ends[0], POLLIN, 0}, {user_fault::descriptor(), POLLIN, 0}};
  while (true) {
    if (poll(sources, 2, -1) < 0) continue;  // interrupted
    std::lock_guard lock(serving_mutex);
    Request* request = nullptr;
    if ((sources[0].revents & POLLIN) != 0 &&
        read(pipe_ends[0], &request, sizeof request) == sizeof request) {
      serve(*request);
    }
    user_fault::Touch touch{};
    if ((sources[1].revents & POLLIN) != 0 && user_fault::read(touch)) serve(touch);
  }
}

void say(const char* text) {
  const ssize_t ignored = write(STDERR_FILENO, text, std::strlen(text));
  static_cast<void>(ignored);  // there is nobody else to tell
}

bool is_write([[maybe_unused]] void* context) {
#if defined(__x86_64__)
  return (static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
  return true;  // not told: a write costs more, and is never wrong
#endif
}

void pass_on(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
    struct sigaction fallback{};
    fallback.sa_handler = SIG_DFL;
    sigaction(SIGSEGV, &fallback, nullptr);  // the touch is repeated and ends the process
    if (info->si_code <= 0) raise(signal);   // sent by kill: there is no touch
  } else {
    previous.sa_handler(signal);
  }
}

bool handle(Address address, void* context) {
  Engine* engine = find(address);
  if (engine == nullptr) return false;
  if (in_forked_child()) {
    if (engine->fault_in_child(address)) return true;
    say("swapmem: a forked child touched an array that was swapped out when it was forked; touch "
        "or pin it before the fork, or start the child with forkserver or spawn\n");
    return false;
  }
  Request request{address, static_cast<int>(gettid()), is_write(context), {}, {}};
  Request* pointer = &request;
  ssize_t written = 0;
  do {
    written = write(pipe_ends[1], &pointer, sizeof pointer);
  } while (written < 0 && errno == EINTR);
  if (written != sizeof pointer) return false;
  while (request.outcome.load(std::memory_order_acquire) == pending) {
    futex(request.outcome, FUTEX_WAIT, pending);
  }
  if (request.outcome.load() == served) return true;
  say("swapmem: cannot bring back the memory of an array: ");
  say(request.why);
  say("\n");
  return false;
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const bool touch = info->si_code > 0;
  const bool good = touch && handle(reinterpret_cast<Address>(info->si_addr), context);
  errno = saved;
  if (!good) pass_on(signal, info, context);
}

void before_fork() {
  registry_mutex.lock();
  for (Entry& entry : entries) {
    if (Engine* engine = entry.engine.load()) engine->lock_for_fork();
  }
}

void after_fork(bool in_child) {
  for (Entry& entry : entries) {
    if (Engine* engine = entry.engine.load()) engine->unlock_after_fork(in_child);
  }
  registry_mutex.unlock();
}

void after_fork_in_parent() {
  after_fork(false);
}

void after_fork_in_child() {
  forked = true;
  after_fork(true);
}

void install() {
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
    throw DeviceError(std::string("pipe: ") + std::strerror(errno), errno);
  }
  // Lives as long as the process: a touch may come from any thread until its very end.
  std::thread(serve_all).detach();
  struct sigaction action{};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous);
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  installed = true;
}

}  // namespace

void add(Engine& engine) {
  std::lock_guard lock(registry_mutex);
  if (in_forked_child()) {
    throw DeviceError(
        "a child forked while swapmem was in use cannot use it; start the child with forkserver "
        "or spawn",
        ECHILD);
  }
  if (!installed) install();
  for (Entry& entry : entries) {
    if (entry.engine.load() != nullptr) continue;
    const Span region = engine.device().region();
    entry.begin = region.address;
    entry.end = region.end();
    entry.engine.store(&engine, std::memory_order_release);
    return;
  }
  throw DeviceError("more than " + std::to_string(entries.size()) + " managers are alive", ENOSPC);
}

void remove(Engine& engine) {
  {
    std::lock_guard lock(registry_mutex);
    for (Entry& entry : entries) {
      if (entry.engine.load() == &engine) entry.engine = nullptr;
    }
  }
  std::lock_guard served(serving_mutex);
}

}  // namespace swapmem::fault_router
