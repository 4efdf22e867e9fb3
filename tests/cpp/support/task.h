// A thread of a test: what it throws is thrown where it is joined.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <thread>

#include "support/gate.h"

namespace swapmem::test {

class Task {
 public:
  explicit Task(std::function<void()> body)
      : thread_([this, body = std::move(body)] {
          try {
            body();
          } catch (...) {
            error_ = std::current_exception();
          }
          done_ = true;
        }) {}
  ~Task() {
    if (!thread_.joinable()) return;
    Gate::open_all();  // only a failed test leaves a task behind
    thread_.join();
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  bool done() const { return done_; }
  void join() {
    thread_.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::exception_ptr error_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace swapmem::test
