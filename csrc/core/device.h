// A device: the memory that arrays compute in.
//
// Contract
// - Addresses come from one region that is reserved at construction and never moves. Memory is
//   put behind parts of it (commit), taken away (decommit), or moved from one part to another.
// - Threads: every call may come from any thread, also several at once, but never two at once for
//   overlapping spans. The engine calls with none of its locks held.
// - Order: a call has taken full effect when it returns, for every thread of the host. Where work
//   is queued on streams, a fence is a point in it: `last_use` is what has to have passed before
//   the memory is taken from where it was. The device may put that off, and memory may be used at
//   its new place before, by work that is ordered after the fence.
// - Errors: DeviceError. A call that throws has changed nothing that can be seen through `block`
//   addresses; moves of several pieces are made of calls that each hold to this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace swapmem {

using Address = std::uintptr_t;

struct Span {
  Address address = 0;
  std::size_t bytes = 0;
  Address end() const { return address + bytes; }
  bool contains(Address a) const { return a - address < bytes; }
};

// A point in what a stream of a device was given: the stream's number above fence_stream_shift, its
// position below. 0 has always passed; of two on one stream the greater passes last.
using Fence = std::uint64_t;
constexpr unsigned fence_stream_shift = 48;

// Several, at most one of each stream: all have to pass.
class Fences {
 public:
  void add(Fence fence) {
    if (fence == 0) return;
    for (Fence& known : fences_) {
      if (known >> fence_stream_shift == fence >> fence_stream_shift) {
        if (fence > known) known = fence;
        return;
      }
    }
    fences_.push_back(fence);
  }
  void add(const Fences& others) {
    for (const Fence fence : others.fences_) add(fence);
  }
  void clear() { fences_.clear(); }
  bool empty() const { return fences_.empty(); }
  auto begin() const { return fences_.begin(); }
  auto end() const { return fences_.end(); }

 private:
  std::vector<Fence> fences_;  // mostly none or one
};

// Called with a fence once a copy is queued: work that is ordered after it finds the bytes.
using Queued = std::function<void(Fence)>;

// A point as a fence is one, kept to be timed. Null where calls return when their work is done, and
// where none could be had. Goes before its device.
using Stamp = std::shared_ptr<void>;

enum class Access { none, read, read_write };

class Device {
 public:
  virtual ~Device() = default;

  virtual Span region() const = 0;

  // The smallest piece of memory. Spans begin and end at multiples of it.
  virtual std::size_t unit_bytes() const { return 4096; }

  // Moves of whole frames at addresses that are multiples of this are cheap; so are large blocks
  // that start at one. A power of two.
  virtual std::size_t frame_bytes() const = 0;

  // Memory of its own behind the span, readable and writable. Where commits_zeros, it reads as
  // zeros where the span held no memory before.
  virtual void commit(Span span) = 0;
  virtual bool commits_zeros() const { return true; }

  // The same for memory that begin_fill alone will use: it need not be accessible.
  virtual void commit_staging(Span span) { commit(span); }

  // Gives the memory behind the span back to the system; a touch is then a fault.
  virtual void decommit(Span span, const Fences& last_use) = 0;

  // Puts the memory behind `from` behind `to`, contents and access kept, in one step: another
  // thread that looks at `to` sees a fault or all of it. `from` then has no memory; to close it may
  // be put off (see tidy). No overlap. Whole frames move as they are; a piece of a frame need not
  // keep its contents. Access may have to wait for commit(to).
  virtual void move(Address from, Address to, std::size_t bytes, const Fences& last_use) = 0;

  // Gives back memory that the device itself keeps for later commits.
  virtual void trim() {}

  // What user code may do. A touch that is not allowed reaches Engine::fault.
  virtual void protect(Span span, Access access) = 0;

  // The span is closed and has no memory: sees to it, where the system can, that system calls which
  // touch it wait as user code does, rather than fail. Ends with commit, or a move to the span.
  virtual void watch(Span) {}
  virtual bool watches() const { return false; }

  // Whether protect(read) stops writes. Where it does not, a copy in the store is good only until
  // the next announced touch.
  virtual bool sees_writes() const = 0;

  // Whether a touch of memory that is not there reaches Engine::fault. Where it does not, only
  // blocks that were offered are taken, see Engine::offer.
  virtual bool sees_touches() const { return true; }

  // After all that the calling thread's current stream was given so far.
  virtual Fence fence() { return 0; }
  // The same point or a later one: as late as somebody waits for it, or orders work after it.
  virtual Fence late_fence() { return fence(); }
  // Returns when it has passed.
  virtual void wait(Fence) {}
  // What the calling thread's current stream is given from here on comes after it.
  virtual void order(Fence) {}

  // The same point as `fence`, for the device's own clock. Does not fail.
  virtual Stamp stamp() noexcept { return nullptr; }
  // From one point to a later one. Returns when that has passed.
  virtual double seconds_between(const Stamp&, const Stamp&) { return 0; }

  // Where a block that comes back has to be filled: `staging` has memory, `block` has none.
  // finish_fill then makes it the block's; if the fill failed, decommit of the block does not.
  // May be called for one piece after another, that is, for the same parts of both: the first is
  // then filled while the next is begun. Pieces end where a multiple of fill_step_bytes does, a
  // power of two.
  virtual Address begin_fill(Span staging, Span block) = 0;
  virtual void finish_fill(Span staging, Span block) = 0;
  virtual std::size_t fill_step_bytes() const { return std::size_t{1} << 63; }

  // Does what other calls have put off, as far as it can be done now: `from` is closed once all of
  // its move's last uses have passed. Errors are for those who need it done.
  virtual void tidy() noexcept {}
};

}  // namespace swapmem
