#include "cuda/streams.h"

#include <algorithm>
#include <string>
#include <utility>

namespace swapmem::cuda {

namespace {

thread_local CUstream current = nullptr;

constexpr std::uint64_t position_mask = (std::uint64_t{1} << fence_stream_shift) - 1;

// Streams that are told apart at a time. Above the first number those with nothing queued give
// their place to others, so that programs which make streams without end stay below the second.
constexpr std::size_t streams_before_reuse = 32;
constexpr std::size_t most_streams = (std::size_t{1} << (64 - fence_stream_shift)) - 1;

// Of so many points at once it is asked whether they have passed.
constexpr std::size_t points_per_question = 8;

}  // namespace

// --- the current stream

CurrentStream::CurrentStream(CUstream stream) : previous_(current) {
  current = stream;
}

CurrentStream::~CurrentStream() {
  current = previous_;
}

CUstream current_stream() {
  return current;
}

// --- events

EventPool::~EventPool() {
  try {
    const Context::Scope scope(context_);
    for (const CUevent event : idle_) context_.driver().cuEventDestroy(event);
  } catch (const DeviceError&) {
    // A forked child, or a context that is lost with all its events.
  }
}

EventPool::Event EventPool::take() {
  CUevent event = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      event = idle_.back();
      idle_.pop_back();
    }
  }
  if (event == nullptr) {
    const Driver& driver = context_.driver();
    driver.check(driver.cuEventCreate(&event, CU_EVENT_BLOCKING_SYNC | flags_), "cuEventCreate");
  }
  return {event, [this](CUevent unused) { give_back(unused); }};
}

void EventPool::give_back(CUevent event) noexcept {
  try {
    std::lock_guard lock(mutex_);
    idle_.push_back(event);
  } catch (...) {
    context_.driver().cuEventDestroy(event);  // no memory to remember it
  }
}

// --- fences

// Throws for a stream that was destroyed. Drivers before CUDA 12 have no ids: every fence is then
// of a stream of its own, and nothing is taken to be in order by itself.
unsigned long long Streams::identify(CUstream stream) {
  unsigned long long id = 0;
  if (context_.driver().cuStreamGetId == nullptr) return ++made_up_id_;
  context_.driver().check(context_.driver().cuStreamGetId(stream, &id), "cuStreamGetId");
  return id;
}

void Streams::check_context(CUstream stream) const {
  if (stream == nullptr || stream == legacy_stream() || stream == per_thread_stream()) {
    return;  // of the context that is current, which is ours
  }
  CUcontext context = nullptr;
  context_.driver().check(context_.driver().cuStreamGetCtx(stream, &context), "cuStreamGetCtx");
  if (context == context_.handle()) return;
  throw DeviceError(
      "the current stream belongs to another device or context than the memory, which is on CUDA "
      "device " +
          std::to_string(context_.ordinal()),
      CUDA_ERROR_INVALID_CONTEXT);
}

// Under the lock of all streams.
Streams::Stream* Streams::find_known(unsigned long long id) const {
  for (const auto& known : streams_) {
    if (known->id == id) return known.get();
  }
  return nullptr;
}

Streams::Stream& Streams::find(CUstream stream, unsigned long long id) {
  {
    std::lock_guard lock(mutex_);
    if (Stream* known = find_known(id)) return *known;
  }
  check_context(stream);
  std::lock_guard lock(mutex_);
  if (Stream* known = find_known(id)) return *known;  // another thread was faster
  if (streams_.size() >= streams_before_reuse) {
    if (Stream* idle = reuse_idle(id)) return *idle;
  }
  if (streams_.size() == most_streams) {
    throw DeviceError("more than " + std::to_string(most_streams) + " streams with work queued",
                      CUDA_ERROR_OUT_OF_MEMORY);
  }
  Stream& added = *streams_.emplace_back(std::make_unique<Stream>());
  added.number = streams_.size();
  added.id = id;
  return added;
}

// Gives this id the place of a stream whose fences have all passed; positions go on from there.
// Under the lock of all streams, and without waiting for one that is being recorded on.
Streams::Stream* Streams::reuse_idle(unsigned long long id) {
  for (const auto& known : streams_) {
    const std::unique_lock lock(known->mutex, std::try_to_lock);
    if (!lock || known.get() == null_stream_) continue;
    forget_passed(*known);
    if (!known->points.empty()) continue;
    known->id = id;
    return known.get();
  }
  return nullptr;
}

Fence Streams::fence() {
  const Context::Scope scope(context_);
  const CUstream stream = current;
  const unsigned long long id = identify(stream);
  EventPool::Event event = events_.take();
  for (;;) {
    Stream& known = find(stream, id);
    std::lock_guard lock(known.mutex);
    if (known.id != id) continue;  // its place was given away meanwhile
    record(known, stream, event);
    return known.number << fence_stream_shift | known.last_position;
  }
}

// Under the stream's lock.
void Streams::record(Stream& stream, CUstream handle, const EventPool::Event& event) {
  if (stream.points.size() >= 2 * points_per_question) forget_passed(stream);
  stream.points.push_back({stream.last_position + 1, event});
  const CUresult result = context_.driver().cuEventRecord(event.get(), handle);
  if (result != CUDA_SUCCESS) {
    stream.points.pop_back();
    context_.driver().fail(result, "cuEventRecord");
  }
  ++stream.last_position;
}

Streams::Stream& Streams::null_stream() {
  if (Stream* const known = null_stream_) return *known;
  const Context::Scope scope(context_);
  const unsigned long long id = identify(nullptr);
  for (;;) {
    Stream& found = find(nullptr, id);
    std::lock_guard lock(mutex_);
    if (found.id != id) continue;  // its place was given away meanwhile
    null_stream_ = &found;
    return found;
  }
}

Fence Streams::late_fence() {
  if (current != nullptr || context_.driver().cuStreamGetId == nullptr) return fence();
  Stream& stream = null_stream();
  std::lock_guard lock(stream.mutex);
  return stream.number << fence_stream_shift | (stream.last_position + 1);
}

// Under the stream's lock.
void Streams::pass(Stream& stream, std::uint64_t position) {
  while (!stream.points.empty() && stream.points.front().position <= position) {
    stream.points.pop_front();
  }
  if (position > stream.passed_position) stream.passed_position = position;
}

// Under the stream's lock. A question that fails leaves the points as they are: whoever waits for
// one of them is told.
void Streams::forget_passed(Stream& stream) {
  while (!stream.points.empty()) {
    const std::size_t last = std::min(points_per_question, stream.points.size()) - 1;
    const Point& point = stream.points[last];
    if (context_.driver().cuEventQuery(point.event.get()) != CUDA_SUCCESS) return;
    pass(stream, point.position);
  }
}

Streams::Stream& Streams::stream_of(Fence fence) {
  const std::uint64_t number = fence >> fence_stream_shift;
  std::lock_guard lock(mutex_);
  if (number == 0 || number > streams_.size()) {
    throw DeviceError("a fence of another device", CUDA_ERROR_INVALID_VALUE);
  }
  return *streams_[number - 1];
}

// The event that stands for the fence, or null if it has passed.
EventPool::Event Streams::pending(Fence fence) {
  if (fence == 0) return nullptr;
  Stream& stream = stream_of(fence);
  const std::uint64_t position = fence & position_mask;
  if (position <= stream.passed_position) return nullptr;
  const Context::Scope scope(context_);
  std::lock_guard lock(stream.mutex);
  if (position > stream.last_position) record(stream, nullptr, events_.take());  // a late one
  for (const Point& point : stream.points) {
    if (point.position < position) continue;
    const CUresult result = context_.driver().cuEventQuery(point.event.get());
    if (result == CUDA_ERROR_NOT_READY) return point.event;
    context_.driver().check(result, "cuEventQuery");
    pass(stream, point.position);
    return nullptr;
  }
  return nullptr;  // points go only when they have passed
}

bool Streams::passed(Fence fence) {
  return pending(fence) == nullptr;
}

void Streams::wait(Fence fence) {
  const EventPool::Event event = pending(fence);
  if (event == nullptr) return;
  const Context::Scope scope(context_);
  context_.driver().check(context_.driver().cuEventSynchronize(event.get()), "cuEventSynchronize");
  Stream& stream = stream_of(fence);
  std::lock_guard lock(stream.mutex);
  pass(stream, fence & position_mask);
}

void Streams::order(Fence fence) {
  if (fence == 0) return;
  Stream& before = stream_of(fence);
  if ((fence & position_mask) <= before.passed_position) return;
  const CUstream stream = current;
  // What a stream is given is in order by itself.
  if (stream == nullptr && &before == null_stream_) return;
  const Context::Scope scope(context_);
  if (&find(stream, identify(stream)) == &before) return;
  const EventPool::Event event = pending(fence);
  if (event == nullptr) return;
  context_.driver().check(
      context_.driver().cuStreamWaitEvent(stream, event.get(), CU_EVENT_WAIT_DEFAULT),
      "cuStreamWaitEvent");
}

// --- stamps

EventPool::Event Streams::stamp() {
  const Context::Scope scope(context_);
  const CUstream stream = current;
  find(stream, identify(stream));  // is one of this context
  EventPool::Event event = timed_events_.take();
  context_.driver().check(context_.driver().cuEventRecord(event.get(), stream), "cuEventRecord");
  return event;
}

double Streams::seconds_between(CUevent earlier, CUevent later) {
  const Context::Scope scope(context_);
  const Driver& driver = context_.driver();
  driver.check(driver.cuEventSynchronize(later), "cuEventSynchronize");
  float milliseconds = 0;
  driver.check(driver.cuEventElapsedTime(&milliseconds, earlier, later), "cuEventElapsedTime");
  return 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace swapmem::cuda
