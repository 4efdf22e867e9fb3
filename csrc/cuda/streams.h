// What is queued on a device: the calling thread's current stream, and fences, points in the work
// that streams were given.
//
// A fence is an event that was recorded when it was asked for; a late one is recorded when somebody
// wants to know of it. Events on one stream pass in the order they were recorded in, so that of a
// stream's fences one number is known to have passed, and most questions are answered without the
// driver.
//
// Contract
// - Threads: every call may come from any thread. No lock is held across a wait.
// - Streams are told apart by the driver's id, which is never used again; a handle is, once its
//   stream is destroyed. Fences outlive their stream.
// - Errors: DeviceError, also for a stream of another device or context.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "core/device.h"
#include "cuda/context.h"

namespace swapmem::cuda {

// The stream that the calling thread's work goes to, for as long as this lives. Nested ones count.
// Without one it is the null stream. To be set anew at each call from a program: what is current
// there can change between any two calls.
class CurrentStream {
 public:
  explicit CurrentStream(CUstream stream);
  ~CurrentStream();
  CurrentStream(const CurrentStream&) = delete;
  CurrentStream& operator=(const CurrentStream&) = delete;

 private:
  const CUstream previous_;
};

CUstream current_stream();

// Events of one kind. A host thread that waits for one sleeps.
class EventPool {
 public:
  // Goes back to the pool, which has to live longer, with its last owner. Nobody who still waits
  // for an event can see it recorded again.
  using Event = std::shared_ptr<CUevent_st>;

  EventPool(const Context& context, unsigned flags) : context_(context), flags_(flags) {}
  ~EventPool();
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  Event take();  // with the context current

 private:
  void give_back(CUevent event) noexcept;

  const Context& context_;
  const unsigned flags_;
  std::mutex mutex_;
  std::vector<CUevent> idle_;
};

class Streams {
 public:
  explicit Streams(const Context& context)
      : context_(context),
        events_(context, CU_EVENT_DISABLE_TIMING),
        timed_events_(context, CU_EVENT_DEFAULT) {}
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  // As in core/device.h.
  Fence fence();
  Fence late_fence();
  void wait(Fence fence);
  void order(Fence fence);

  bool passed(Fence fence);

  // As in core/device.h, but throws.
  EventPool::Event stamp();
  double seconds_between(CUevent earlier, CUevent later);

 private:
  struct Point {
    std::uint64_t position;
    EventPool::Event event;
  };
  // passed_position < position of every point; points in ascending order
  struct Stream {
    std::uint64_t number = 0;                       // above fence_stream_shift in its fences
    std::atomic<std::uint64_t> passed_position{0};  // and all before it
    std::mutex mutex;                    // of what follows; held while an event is recorded, too,
                                         // so that positions are in the order of the records
    std::atomic<unsigned long long> id;  // changes under both this lock and that of all streams
    std::uint64_t last_position = 0;     // late fences have the next one
    std::deque<Point> points;
  };

  unsigned long long identify(CUstream stream);
  Stream& null_stream();
  Stream& find(CUstream stream, unsigned long long id);
  Stream* find_known(unsigned long long id) const;
  Stream* reuse_idle(unsigned long long id);
  void check_context(CUstream stream) const;
  Stream& stream_of(Fence fence);
  void record(Stream& stream, CUstream handle, const EventPool::Event& event);
  void forget_passed(Stream& stream);
  static void pass(Stream& stream, std::uint64_t position);
  EventPool::Event pending(Fence fence);

  const Context& context_;
  EventPool events_;
  EventPool timed_events_;
  std::atomic<unsigned long long> made_up_id_{0};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Stream>> streams_;  // the first has the number 1
  // The one stream that is never destroyed, so that it can be recorded on later; once it was asked
  // for. Its place is not given away.
  std::atomic<Stream*> null_stream_{nullptr};
};

}  // namespace swapmem::cuda
