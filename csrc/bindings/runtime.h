// An engine as Python has it: shared by the manager and by every array in it.
//
// Contract
// - A forked child has none of the engine's threads. What only announces or frees does nothing
//   there, so that hooks and arrays may go on; what has to move something throws.
// - The engine ends with its last array. In a forked child it is left as it is: its threads cannot
//   be joined there, which makes leaving it the only safe end.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "core/engine.h"

namespace swapmem {

class Runtime {
 public:
  virtual ~Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  virtual bool in_forked_child() const = 0;

  // The size from which on an array is a block of its own.
  virtual std::size_t min_block_bytes() const = 0;

  Engine& engine() { return *engine_; }

  // For what needs the workers: throws DeviceError in a forked child.
  virtual Engine& moving_engine() = 0;

  // For what only looks.
  virtual Engine& readable_engine() = 0;

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

 protected:
  explicit Runtime(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}

  void abandon_engine() { static_cast<void>(engine_.release()); }

 private:
  std::unique_ptr<Engine> engine_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};  // failure_ != nullptr
};

}  // namespace swapmem
