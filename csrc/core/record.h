// What one iteration did, in order: from this the planner makes its trace.
//
// Threads: the engine's lock protects it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/block.h"
#include "core/device.h"

namespace swapmem {

enum class RecordKind : std::uint8_t {
  exists,    // a block that is there when the iteration begins
  begin_op,  // of an op that is inside no other
  touch,     // a block that the open op, or one inside it, announced
  allocate,
  free,
  fault,  // a touch that nobody announced
  stall,  // the open op, or what is between ops, waited; `seconds` is for how long
  end_op,
};

struct RecordItem {
  double seconds;  // when; for a stall how long
  std::uint64_t block = 0;
  Address address = 0;
  std::size_t bytes = 0;  // its capacity: what it takes of the budget
  std::uint32_t op = 0;
  RecordKind kind;
  bool may_leave = false;  // the block could be swapped out for others, but for ops that hold it
};

// On a device with streams, where an op began or ended there. Of a stall where it began: it ended
// with the begin of its op.
struct StampedItem {
  std::size_t item;
  Stamp stamp;
  double asked_seconds;
};

struct Record {
  double begun_seconds = 0;
  double ended_seconds = 0;
  std::vector<RecordItem> items;
  std::vector<StampedItem> stamps;
};

// Has ops begin and end when they did so on the device, as far as all of them are stamped: there
// they run some time after they were called. Waits for the last one.
void put_on_clock_of(Device& device, Record& record);

class Recorder {
 public:
  // An iteration with more items than this is given up: it is no iteration, but a program that has
  // none. So is one for which there is no memory.
  static constexpr std::size_t most_items = std::size_t{1} << 20;

  bool active() const { return active_; }

  // Ends the iteration that was recorded, if there is one, and begins the next.
  void begin_iteration(double now);
  // The iteration that has just begun begins only now.
  void begin_again(double now) { current_.begun_seconds = now; }
  void add(const RecordItem& item, const Stamp& stamp = nullptr, double now = 0) noexcept;
  // Of the op that was added last.
  void stamp_begin(const Stamp& stamp, double now) noexcept;

  const Record& last() const { return last_; }  // the iteration that ended last; empty if none did

 private:
  void give_up() noexcept;

  bool active_ = false;
  std::size_t begun_item_ = 0;  // the begin of an op that was added last
  Record current_;
  Record last_;
};

}  // namespace swapmem
