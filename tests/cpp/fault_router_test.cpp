// Touches that nobody announced: served wherever they come from, and passed on where they are not
// ours. Run once with userfaultfd, where the system allows it, and once without.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/errors.h"
#include "host/user_fault.h"
#include "support/faulty.h"
#include "support/process.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

const Pair& host_and_file() {
  for (const Pair& pair : pairs()) {
    if (pair.name == "host+file") return pair;
  }
  throw check::Failed("no such pair");
}

Address make_out(Rig& rig, std::size_t bytes = block_bytes) {
  const Address block = rig.make(bytes);
  rig.engine().wait(rig.engine().swap_out(block));
  return block;
}

volatile char* bytes_at(Address address) {
  return reinterpret_cast<volatile char*>(address);
}

struct Pipe {
  int ends[2];
  Pipe() { CHECK(pipe2(ends, O_CLOEXEC) == 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
};

}  // namespace

TEST(router, a_touch_waits_for_its_bytes) {
  Rig rig(host_and_file());
  const Address read = make_out(rig);
  CHECK(rig.intact(read));
  const Address written = make_out(rig);
  *bytes_at(written + 5000) = 1;
  rig.engine().wait(rig.engine().swap_out(written));
  CHECK_EQUAL(static_cast<int>(*bytes_at(written + 5000)), 1);
  CHECK_EQUAL(rig.engine().stats().faults, 3u);
  rig.forget(written);
  rig.engine().free(written);
  rig.finish();
}

TEST(router, many_threads_touch_the_same_block_at_once) {
  Rig rig(host_and_file());
  for (int round = 0; round < 20; ++round) {
    const Address block = make_out(rig, 4 * block_bytes);
    rig.store().reads.close();
    std::vector<std::unique_ptr<Task>> tasks;
    for (std::size_t n = 0; n < 4; ++n) {
      tasks.push_back(std::make_unique<Task>([&rig, block, n] {
        CHECK(*bytes_at(block + n * block_bytes) == *bytes_at(block + n * block_bytes));
        CHECK(rig.intact(block));
      }));
    }
    rig.store().reads.await_waiting(1);
    rig.store().reads.open();
    for (const auto& task : tasks) task->join();
    rig.free(block);
  }
  rig.finish();
}

TEST(router, many_threads_touch_more_blocks_than_fit) {
  RigOptions options;
  options.budget_bytes = 24 * block_bytes;
  Rig rig(host_and_file(), options);
  std::vector<Address> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(rig.make());
  std::vector<std::unique_ptr<Task>> tasks;
  for (std::size_t n = 0; n < 4; ++n) {
    tasks.push_back(std::make_unique<Task>([&, n] {
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        CHECK(rig.intact(blocks[(i * (2 * n + 1) + n) % blocks.size()]));
      }
    }));
  }
  for (const auto& task : tasks) task->join();
  rig.check();
  rig.finish();
}

TEST(router, a_write_during_the_copy_is_seen) {
  Rig rig(host_and_file());
  const Address block = rig.reach(State::cleaning);
  const std::uint64_t cookie = rig.next_cookie();
  fill(block, block_bytes, cookie);
  rig.rewritten_as(block, cookie);
  rig.open_gates();
  rig.engine().drain();
  rig.engine().wait(rig.engine().swap_out(block));
  rig.verify(block);
  rig.finish();
}

TEST(router, a_system_call_waits_or_says_efault_and_a_pin_always_helps) {
  Rig rig(host_and_file());
  const Pipe pipe;
  for (const bool pinned : {false, true}) {
    const Address block = make_out(rig);
    if (pinned) rig.engine().pin(block);
    const ssize_t written = write(pipe.ends[1], reinterpret_cast<void*>(block), page_bytes);
    if (written < 0) {
      CHECK(!pinned);
      CHECK_EQUAL(errno, EFAULT);
      CHECK(user_fault::descriptor() < 0);
    } else {
      CHECK_EQUAL(written, static_cast<ssize_t>(page_bytes));
      const std::vector<char> expected(bytes_at(block), bytes_at(block) + page_bytes);
      std::vector<char> got(page_bytes);
      CHECK(read(pipe.ends[0], got.data(), got.size()) == static_cast<ssize_t>(page_bytes));
      CHECK(got == expected);
    }
    if (pinned) {
      char byte = 42;
      CHECK(write(pipe.ends[1], &byte, 1) == 1);
      CHECK(read(pipe.ends[0], reinterpret_cast<void*>(block), 1) == 1);
      CHECK_EQUAL(static_cast<int>(*bytes_at(block)), 42);
      rig.engine().unpin(block);
    }
    rig.free(block);
  }
  rig.finish();
}

TEST(router, a_signal_to_any_thread_does_not_stop_the_service) {
  struct sigaction action{};
  struct sigaction before{};
  action.sa_handler = [](int) {};  // without SA_RESTART: calls that wait return EINTR
  sigaction(SIGUSR1, &action, &before);
  {
    Rig rig(host_and_file());
    make_out(rig);
    for (int round = 0; round < 5; ++round) {
      DIR* threads = opendir("/proc/self/task");
      while (const dirent* entry = readdir(threads)) {
        const int thread = std::atoi(entry->d_name);
        if (thread != 0) syscall(SYS_tgkill, getpid(), thread, SIGUSR1);
      }
      closedir(threads);
      const Address block = make_out(rig);
      CHECK(rig.intact(block));
    }
    rig.finish();
  }
  sigaction(SIGUSR1, &before, nullptr);
}

TEST(router, two_engines_are_told_apart) {
  Rig one(host_and_file());
  Rig two(host_and_file());
  const Address a = make_out(one);
  const Address b = make_out(two);
  CHECK(two.intact(b));
  CHECK(one.intact(a));
  CHECK_EQUAL(one.engine().stats().faults, 1u);
  CHECK_EQUAL(two.engine().stats().faults, 1u);
  one.finish();
  two.finish();
}

TEST(router, more_engines_than_it_has_room_for_are_refused) {
  std::vector<std::unique_ptr<Rig>> rigs;
  bool refused = false;
  while (!refused && rigs.size() < 64) {
    try {
      rigs.push_back(std::make_unique<Rig>(host_and_file()));
    } catch (const DeviceError& error) {
      refused = true;
    }
  }
  CHECK(refused);
  CHECK(rigs.size() >= 8);
  rigs.clear();
  Rig again(host_and_file());
  const Address block = make_out(again);
  CHECK(again.intact(block));
}

// --- what is not ours, or cannot be served: in processes of their own

namespace {

volatile std::uintptr_t nowhere = 16;  // volatile: the compiler must not see through it

void touch_nowhere() {
  *reinterpret_cast<volatile char*>(nowhere) = 1;
}

}  // namespace

TEST(child, a_touch_elsewhere_with_a_handler_of_its_own) {
  struct sigaction action{};
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    _exit(reinterpret_cast<std::uintptr_t>(info->si_addr) == nowhere ? 42 : 43);
  };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  Rig rig(host_and_file());
  CHECK(rig.intact(make_out(rig)));
  touch_nowhere();
}

TEST(child, a_touch_elsewhere) {
  Rig rig(host_and_file());
  CHECK(rig.intact(make_out(rig)));
  touch_nowhere();
}

TEST(child, a_signal_that_is_no_touch) {
  Rig rig(host_and_file());
  kill(getpid(), SIGSEGV);
  CHECK(rig.intact(make_out(rig)));
  std::fprintf(stderr, "still there\n");
}

TEST(child, a_touch_of_bytes_that_cannot_be_read) {
  Faults broken(1, true);
  Rig rig(host_and_file(), {}, [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
    store = std::make_unique<UnreadableStore>(std::move(store), broken);
  });
  const Address block = make_out(rig);
  *bytes_at(block) = 1;
}

TEST(child, a_touch_of_a_block_that_is_gone) {
  Rig rig(host_and_file());
  const Address block = make_out(rig);
  rig.free(block);
  *bytes_at(block) = 1;
}

TEST(router, a_touch_elsewhere_reaches_the_handler_that_was_there_before) {
  CHECK(in_new_process("child/a_touch_elsewhere_with_a_handler_of_its_own").exited(42));
}

TEST(router, a_touch_elsewhere_ends_the_process_as_ever) {
  const Ended ended = in_new_process("child/a_touch_elsewhere");
  CHECK(ended.died());
  CHECK(ended.errors.find("swapmem:") == std::string::npos);
}

TEST(router, a_signal_sent_by_kill_ends_the_process_as_ever) {
  const Ended ended = in_new_process("child/a_signal_that_is_no_touch");
  CHECK(ended.died());
  CHECK(ended.errors.find("still there") == std::string::npos);
}

TEST(router, bytes_that_cannot_be_read_end_the_process_with_the_reason) {
  const Ended ended = in_new_process("child/a_touch_of_bytes_that_cannot_be_read");
  CHECK(ended.died());
  CHECK(ended.errors.find("cannot bring back the memory of an array: injected") !=
        std::string::npos);
}

TEST(router, a_touch_of_a_freed_block_ends_the_process_with_the_reason) {
  const Ended ended = in_new_process("child/a_touch_of_a_block_that_is_gone");
  CHECK(ended.died());
  CHECK(ended.errors.find("no live array") != std::string::npos);
}

// --- fork

TEST(router, a_forked_child_reads_what_was_in_memory_and_its_writes_are_its_own) {
  for (const State state : {State::resident, State::cleaning, State::clean}) {
    RigOptions options;
    if (state == State::clean) options.budget_bytes = 8 * block_bytes;
    Rig rig(host_and_file(), options);
    const Address block = rig.reach(state);
    const Ended ended = in_fork([&] {
      if (!rig.intact(block)) return 1;
      *bytes_at(block) = static_cast<char>(*bytes_at(block) + 1);
      return 0;
    });
    CHECK(ended.exited(0));
    CHECK(rig.intact(block));
    rig.open_gates();
    rig.engine().drain();
    rig.verify_all();
    rig.finish();
  }
}

TEST(router, a_forked_child_that_touches_what_was_out_is_told_and_ends) {
  for (const bool write : {false, true}) {
    for (const State state : {State::out, State::filling}) {
      Rig rig(host_and_file());
      const Address block = rig.reach(state);
      const Ended ended = in_fork([&] {
        if (write) *bytes_at(block + page_bytes) = 1;
        return *bytes_at(block) == 0 ? 10 : 11;  // read something: wrong
      });
      CHECK(!ended.exited(10));
      CHECK(!ended.exited(11));
      CHECK(ended.died());
      CHECK(ended.errors.find("forked child") != std::string::npos);
      rig.open_gates();
      CHECK(rig.intact(block));  // and the parent goes on
      rig.finish();
    }
  }
}

TEST(router, forks_in_the_middle_of_transfers_disturb_nobody) {
  RigOptions options;
  options.budget_bytes = 16 * block_bytes;
  Rig rig(host_and_file(), options);
  std::vector<Address> blocks;
  for (int i = 0; i < 32; ++i) blocks.push_back(rig.make());
  std::atomic<bool> stop{false};
  Task toucher([&] {
    while (!stop) {
      for (const Address block : blocks) CHECK(rig.intact(block));
    }
  });
  for (int i = 0; i < 20; ++i) CHECK(in_fork([] { return 7; }).exited(7));
  stop = true;
  toucher.join();
  rig.check();
  rig.verify_all();
  rig.finish();
}
