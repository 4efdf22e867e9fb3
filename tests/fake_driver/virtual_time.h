// Virtual time: clocks of host threads, and time lines on which one thing happens at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "fake_driver/fake_driver.h"

namespace fake {

// Takes each piece of time into the first gap that is long enough and not before it is ready, so
// that the result hardly depends on the order in which work happens to be executed.
class TimeLine {
 public:
  // Returns when it is over.
  double occupy(double ready_seconds, double seconds);
  double busy_seconds() const { return busy_seconds_; }

 private:
  std::map<double, double> busy_;  // from, to; neighbours that touch are one
  double busy_seconds_ = 0;
};

class VirtualTime {
 public:
  // The calling thread's clock, 0 in a thread that was not seen since the last reset.
  double& now();
  void not_before(double seconds);

  // A call of the driver about `handles` pieces of memory that takes `cost_seconds` for each; only
  // one of them is served at a time.
  void serve(double cost_seconds, std::size_t handles = 1);

  std::uint64_t life() const { return life_; }  // no two resets have the same
  TimeLine* line(bool to_host) { return &lines_[to_host || rates.shared ? 0 : 1]; }
  double copy_seconds(double bytes, double rate) const { return rate > 0 ? bytes / rate : 0; }

  FakeRates rates = {};
  FakeCosts costs = {};
  FakeDelays delays = {};

 private:
  static std::uint64_t next_life();

  const std::uint64_t life_ = next_life();
  TimeLine lines_[2];
  TimeLine driver_;
};

}  // namespace fake
