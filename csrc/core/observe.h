// What the engine tells about itself: statistics, the trace, faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/block.h"

namespace swapmem {

enum class EventKind : std::uint8_t {
  allocate,
  free,
  begin_op,
  end_op,
  swap_out,  // a copy to the store is complete
  swap_in,   // a block is back
  evict,     // a block's memory was taken away
  fault,     // an unannounced touch was served
  stall,     // an allocation waited for room, or an op for blocks: the last of them
  iteration,
  unplanned,  // a block had to leave that the plan would have kept
};

struct Event {
  double time_seconds;  // the end, where it has a duration
  double seconds;
  std::uint64_t block;  // id; 0 where none is concerned
  std::size_t bytes;
  std::size_t resident_bytes;
  std::size_t charged_bytes;
  std::uint32_t op;  // index into the op names; 0 is "outside every op"
  EventKind kind;
};

// The last `capacity` events.
class Trace {
 public:
  explicit Trace(std::size_t capacity) : capacity_(capacity) { events_.reserve(capacity); }

  void add(const Event& event) noexcept {
    if (events_.size() < capacity_) {
      events_.push_back(event);
    } else {
      events_[next_] = event;
    }
    next_ = (next_ + 1) % capacity_;
  }
  std::vector<Event> events() const {  // oldest first
    if (events_.size() < capacity_) return events_;
    std::vector<Event> result(events_.begin() + static_cast<std::ptrdiff_t>(next_), events_.end());
    result.insert(result.end(), events_.begin(),
                  events_.begin() + static_cast<std::ptrdiff_t>(next_));
    return result;
  }

 private:
  const std::size_t capacity_;
  std::size_t next_ = 0;
  std::vector<Event> events_;
};

struct FaultRecord {
  double time_seconds;
  double seconds;
  std::uint64_t block;
  std::size_t bytes;
  std::uint32_t op;
  Address address;
};

struct OpStats {
  std::string name;
  std::uint64_t calls = 0;
  double seconds = 0;        // from begin_op to end_op, waits of begin_op included
  double stall_seconds = 0;  // waits for memory or data, in begin_op and in allocations
  std::size_t swap_in_bytes = 0;
  std::uint64_t faults = 0;
  std::size_t peak_bytes = 0;  // the most that was held while it was open
};

struct Stats {
  std::size_t budget_bytes = 0;
  std::size_t charged_bytes = 0;
  std::size_t peak_charged_bytes = 0;
  std::size_t live_bytes = 0;
  std::size_t peak_live_bytes = 0;
  std::size_t resident_bytes = 0;
  std::size_t peak_resident_bytes = 0;
  std::size_t cached_bytes = 0;
  std::size_t held_bytes = 0;
  std::size_t store_bytes = 0;
  std::size_t peak_store_bytes = 0;
  std::size_t store_budget_bytes = 0;
  std::size_t swap_out_bytes = 0;
  std::size_t swap_in_bytes = 0;
  std::uint64_t swap_out_count = 0;
  std::uint64_t swap_in_count = 0;
  double swap_out_busy_seconds = 0;  // time in which at least one copy was under way
  double swap_in_busy_seconds = 0;
  double duplex_busy_seconds = 0;  // of both, at once
  // Of the bytes each way those that were copied then, a copy's spread evenly over its time.
  double swap_out_duplex_bytes = 0;
  double swap_in_duplex_bytes = 0;
  std::uint64_t clean_evictions = 0;  // memory taken from blocks whose copy was still good
  std::uint64_t transfer_errors = 0;
  double stall_seconds = 0;
  std::uint64_t faults = 0;
  double fault_seconds = 0;
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
  std::uint64_t warm_hits = 0;
  std::uint64_t iterations = 0;
  std::uint64_t planned_iterations = 0;   // that began with a plan
  std::uint64_t plan_misses = 0;          // of which so many did not run as planned
  std::uint64_t unplanned_evictions = 0;  // of blocks that the plan would have kept
  std::size_t largest_op_bytes = 0;
  std::string largest_op;
  std::vector<OpStats> by_op;
};

struct BlockInfo {
  std::uint64_t id;
  Address address;
  std::size_t bytes;
  State state;
  std::uint32_t holds;
  std::uint32_t pins;
};

}  // namespace swapmem
