// A gate that calls pass through: closed, it holds them until the test lets them go, so that every
// moment of a transfer can be looked at without sleeping.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <vector>

namespace swapmem::test {

class Gate {
 public:
  Gate();
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void close();
  void open();
  void let_pass(std::size_t calls);       // of those that wait or come, while it is closed
  void await_waiting(std::size_t calls);  // until so many wait at it; fails after a long time
  std::size_t waiting() const;

  void pass();  // what a gated call does

  // For a test that fails with calls waiting: its threads have to end.
  static void open_all();

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  std::size_t waiting_ = 0;
  std::size_t permits_ = 0;
};

}  // namespace swapmem::test
