// An engine with its registration for faults, shared by the manager and by every array in it.
#pragma once

#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>

#include "core/engine.h"
#include "core/errors.h"
#include "host/fault_router.h"

namespace swapmem {

class Runtime {
 public:
  explicit Runtime(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {
    fault_router::add(*engine_);
  }
  ~Runtime() {
    if (fault_router::in_forked_child()) {
      // The child has none of the engine's threads to join: leaving it is the only safe end.
      static_cast<void>(engine_.release());
      return;
    }
    fault_router::remove(*engine_);
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Engine& engine() { return *engine_; }

  // For what needs the workers.
  Engine& moving_engine() {
    if (fault_router::in_forked_child()) {
      throw DeviceError("a forked child cannot swap; start it with forkserver or spawn", ECHILD);
    }
    return *engine_;
  }

  // The last allocation error: NumPy replaces it by a MemoryError that knows no numbers.
  void keep_failure(std::exception_ptr failure) {
    std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
    failed_ = true;
  }
  // A later allocation went well: whoever met the error has dealt with it.
  void forget_failure() {
    if (failed_.load(std::memory_order_relaxed)) take_failure();
  }
  std::exception_ptr take_failure() {
    std::lock_guard lock(mutex_);
    failed_ = false;
    return std::exchange(failure_, nullptr);
  }

 private:
  std::unique_ptr<Engine> engine_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};  // failure_ != nullptr
};

}  // namespace swapmem
