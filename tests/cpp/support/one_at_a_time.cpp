#include "support/one_at_a_time.h"

#include <pthread.h>
#include <semaphore.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <thread>
#include <vector>

#include "fake_driver/fake_driver.h"

namespace swapmem::test {
namespace {

struct Thread {
  Thread() { sem_init(&may_go_on, 0, 0); }
  ~Thread() { sem_destroy(&may_go_on); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  void sleep() {
    while (sem_wait(&may_go_on) != 0) {
    }
  }

  sem_t may_go_on;
  pthread_cond_t* condition = nullptr;  // that it waits on
  double seconds = 0;                   // when it can go on
};

class Threads {
 public:
  static Threads& all() {
    static Threads& threads = *new Threads;  // outlives every thread
    return threads;
  }

  int wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
    Thread& me = calling();
    {
      std::lock_guard lock(mutex_);
      me.condition = condition;
      waiting_.push_back(&me);
      if (running_ == &me) go_on();
    }
    pthread_mutex_unlock(mutex);
    me.sleep();
    catch_up(me);
    return pthread_mutex_lock(mutex);
  }

  void wake(pthread_cond_t* condition, bool all) {
    std::lock_guard lock(mutex_);
    const auto on_it = [&](const Thread* thread) { return thread->condition == condition; };
    for (auto at = waiting_.begin();
         (at = std::find_if(at, waiting_.end(), on_it)) != waiting_.end();) {
      Thread& woken = **at;
      at = waiting_.erase(at);
      woken.condition = nullptr;
      if (running_ == nullptr) {
        sem_post(&woken.may_go_on);
      } else {
        woken.seconds = fake_seconds();
        ready_.push_back(&woken);
      }
      if (!all) return;
    }
  }

  void begin() {
    const auto others = [] {
      const auto tasks = std::filesystem::directory_iterator("/proc/self/task");
      return static_cast<std::size_t>(std::distance(tasks, {})) - 1;
    };
    for (;; std::this_thread::yield()) {
      std::lock_guard lock(mutex_);
      if (waiting_.size() < others()) continue;
      running_ = &calling();
      fake_on_delay([] { all().delayed(); });
      return;
    }
  }

  void end() {
    std::lock_guard lock(mutex_);
    fake_on_delay(nullptr);
    running_ = nullptr;
    for (Thread* thread : ready_) sem_post(&thread->may_go_on);
    ready_.clear();
  }

 private:
  static Thread& calling() {
    thread_local Thread thread;
    return thread;
  }

  // A call of the driver has taken the calling thread time: those who are earlier go first.
  void delayed() {
    Thread& me = calling();
    {
      std::lock_guard lock(mutex_);
      if (running_ != &me) return;
      me.seconds = fake_seconds();
      ready_.push_back(&me);
      go_on();
    }
    me.sleep();
  }

  // The earliest goes on, of those that are equally early the one that was there first.
  void go_on() {
    const auto earliest =
        std::min_element(ready_.begin(), ready_.end(),
                         [](const Thread* a, const Thread* b) { return a->seconds < b->seconds; });
    if (earliest == ready_.end()) {
      std::fputs("every thread waits for another\n", stderr);
      std::abort();
    }
    running_ = *earliest;
    ready_.erase(earliest);
    sem_post(&running_->may_go_on);
  }

  void catch_up(const Thread& me) {
    {
      std::lock_guard lock(mutex_);
      if (running_ != &me) return;
    }
    fake_advance(std::max(0.0, me.seconds - fake_seconds()));
  }

  std::mutex mutex_;
  std::vector<Thread*> waiting_;  // on conditions, the first that came first
  std::vector<Thread*> ready_;
  Thread* running_ = nullptr;  // null while all run as the system lets them
};

}  // namespace

OneAtATime::OneAtATime() {
  Threads::all().begin();
}

OneAtATime::~OneAtATime() {
  Threads::all().end();
}

}  // namespace swapmem::test

// In place of the system's: what the engine says of times is then of virtual time.
std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  return time_point(duration_cast<duration>(std::chrono::duration<double>(fake_seconds())));
}

// In place of the system's, for all of std::condition_variable but its waits with a limit.

extern "C" int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  return swapmem::test::Threads::all().wait(condition, mutex);
}

extern "C" int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  swapmem::test::Threads::all().wake(condition, false);
  return 0;
}

extern "C" int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  swapmem::test::Threads::all().wake(condition, true);
  return 0;
}
