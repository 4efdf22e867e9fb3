// A device: the memory that arrays compute in.
//
// Contract
// - Addresses come from one region that is reserved at construction and never moves. Memory is
//   put behind parts of it (commit), taken away (decommit), or moved from one part to another.
// - Threads: every call may come from any thread, also several at once, but never two at once for
//   overlapping spans. The engine calls with none of its locks held.
// - Order: a call has taken full effect when it returns, for every thread.
// - Errors: DeviceError. A call that throws has changed nothing that can be seen through `block`
//   addresses; moves of several pieces are made of calls that each hold to this.
#pragma once

#include <cstddef>
#include <cstdint>

namespace swapmem {

using Address = std::uintptr_t;

struct Span {
  Address address = 0;
  std::size_t bytes = 0;
  Address end() const { return address + bytes; }
  bool contains(Address a) const { return a - address < bytes; }
};

enum class Access { none, read, read_write };

class Device {
 public:
  virtual ~Device() = default;

  virtual Span region() const = 0;

  // Moves of whole frames at addresses that are multiples of this are cheap; so are large blocks
  // that start at one. A power of two.
  virtual std::size_t frame_bytes() const = 0;

  // Memory of its own behind the span, readable and writable. It reads as zeros where the span
  // held no memory before.
  virtual void commit(Span span) = 0;

  // Gives the memory behind the span back to the system; a touch is then a fault.
  virtual void decommit(Span span) = 0;

  // Puts the memory behind `from` behind `to`, contents and access kept, in one step: another
  // thread that looks at `to` sees a fault or all of it. `from` then has no memory and is not
  // accessible through its old mapping's contents. No overlap.
  virtual void move(Address from, Address to, std::size_t bytes) = 0;

  // What user code may do. A touch that is not allowed reaches Engine::fault.
  virtual void protect(Span span, Access access) = 0;

  // The span is closed and has no memory: sees to it, where the system can, that system calls which
  // touch it wait as user code does, rather than fail. Ends with commit, or a move to the span.
  virtual void watch(Span) {}
  virtual bool watches() const { return false; }

  // Whether protect(read) stops writes. Where it does not, a copy in the store is good only until
  // the next announced touch.
  virtual bool sees_writes() const = 0;

  // Where a block that comes back has to be filled: `staging` has memory, `block` has none.
  // finish_fill then makes it the block's.
  virtual Address begin_fill(Span staging, Span block) = 0;
  virtual void finish_fill(Span staging, Span block) = 0;
};

}  // namespace swapmem
