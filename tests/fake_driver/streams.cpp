#include "fake_driver/streams.h"

#include <algorithm>
#include <exception>
#include <string>

#include "fake_driver/world.h"

namespace fake {

using namespace swapmem::cuda;

std::shared_ptr<Stream> Streams::add(CUcontext context, bool blocking) {
  auto stream = std::make_shared<Stream>();
  stream->id = next_id_++;
  stream->actor = world_.happens_before.new_actor();
  stream->context = context;
  stream->device = world_.contexts.find(context)->device;
  stream->blocking = blocking;
  all_.push_back(stream);
  return stream;
}

CUstream Streams::create(CUcontext context, bool blocking) {
  CUstream handle = nullptr;
  if (reuse_handles && !unused_.empty()) {
    handle = unused_.back();
    unused_.pop_back();
  } else {
    handle = reinterpret_cast<CUstream>(next_handle_ += 0x10);
  }
  streams_[handle] = add(context, blocking);
  return handle;
}

bool Streams::destroy(CUstream handle) {
  const auto found = streams_.find(handle);
  if (found == streams_.end()) return false;
  const std::shared_ptr<Stream> stream = found->second;
  stream->destroyed = true;
  streams_.erase(found);
  unused_.push_back(handle);
  drop_if_over(stream);
  return true;
}

void Streams::drop_if_over(const std::shared_ptr<Stream>& stream) {
  if (!stream->destroyed || !stream->queue.empty()) return;
  if (stream->blocking) ended_[stream->context].join(stream->known);
  std::erase(all_, stream);
}

std::shared_ptr<Stream> Streams::default_stream(bool per_thread) {
  const CUcontext context = world_.contexts.current();
  if (context == nullptr) return nullptr;
  std::shared_ptr<Stream>& stream =
      per_thread ? per_thread_[{context, std::this_thread::get_id()}] : legacy_[context];
  if (stream == nullptr) {
    stream = add(context, per_thread);
    stream->legacy = !per_thread;
  }
  return stream;
}

std::shared_ptr<Stream> Streams::find(CUstream handle) {
  if (handle == nullptr || handle == legacy_stream()) return default_stream(false);
  if (handle == per_thread_stream()) return default_stream(true);
  const auto found = streams_.find(handle);
  return found == streams_.end() ? nullptr : found->second;
}

CUevent Streams::create_event(CUcontext context, unsigned flags) {
  const auto handle = reinterpret_cast<CUevent>(next_handle_ += 0x10);
  events_[handle] = Event{context, flags, nullptr};
  return handle;
}

bool Streams::destroy_event(CUevent handle) {
  return events_.erase(handle) != 0;
}

Event* Streams::find_event(CUevent handle) {
  const auto found = events_.find(handle);
  return found == events_.end() ? nullptr : &found->second;
}

void Streams::order_with_legacy(Stream& stream, Work& work) {
  const auto comes_after = [&](const Stream& other) {
    stream.known.join(other.known);
    if (other.last != nullptr) work.after.push_back(other.last);
  };
  if (stream.legacy) {
    stream.known.join(ended_[stream.context]);
    for (const auto& other : all_) {
      if (other->context == stream.context && other->blocking && !other->legacy) {
        comes_after(*other);
      }
    }
  } else if (stream.blocking) {
    const auto legacy = legacy_.find(stream.context);
    if (legacy != legacy_.end()) comes_after(*legacy->second);
  }
}

void Streams::give(Stream& stream, const std::shared_ptr<Work>& work) {
  work->number = ++given_;
  work->name += " #" + std::to_string(work->number) + " (stream " + std::to_string(stream.id) + ")";
  order_with_legacy(stream, *work);
  stream.known.join(world_.happens_before.host());
  for (const auto& earlier : work->after) stream.known.join(earlier->known);
  stream.known.set(stream.actor, ++stream.steps);
  work->known = stream.known;
  world_.happens_before.give(work, stream.actor, stream.steps);
  work->submitted_seconds = world_.time.now();
  stream.queue.push_back(work);
  stream.last = work;
}

double Streams::ready_seconds(const Stream& stream, const Work& work) const {
  double seconds = std::max(stream.seconds, work.submitted_seconds);
  for (const auto& earlier : work.after) seconds = std::max(seconds, earlier->finished_seconds);
  for (const auto& earlier : work.uses_of) seconds = std::max(seconds, earlier->finished_seconds);
  return seconds;
}

std::shared_ptr<Stream> Streams::choose() {
  std::vector<std::shared_ptr<Stream>> able;
  for (const auto& stream : all_) {
    if (stream->queue.empty() || stream->held) continue;
    const Work& head = *stream->queue.front();
    if (head.running) continue;
    if (std::all_of(head.after.begin(), head.after.end(), [](const auto& w) { return w->done; })) {
      able.push_back(stream);
    }
  }
  if (able.empty()) return nullptr;
  if (!in_time_order_) return able[random_() % able.size()];
  return *std::min_element(able.begin(), able.end(), [this](const auto& a, const auto& b) {
    const Work& x = *a->queue.front();
    const Work& y = *b->queue.front();
    const double x_seconds = ready_seconds(*a, x);
    const double y_seconds = ready_seconds(*b, y);
    return x_seconds != y_seconds ? x_seconds < y_seconds : x.number < y.number;
  });
}

bool Streams::memory_is_there(const Stream& stream, const Work& work) {
  for (const Range& range : work.ranges) {
    if (range.bytes == 0 || world_.device_memory.accessible(range, stream.device)) continue;
    const bool on_host = range.pageable || world_.host_memory.find(range.address, range.bytes);
    if (on_host && HostMemory::exists(range.address, range.bytes)) continue;
    world_.reports.add(FAKE_ILLEGAL_ADDRESS, work.name + (range.write ? " writes " : " reads ") +
                                                 std::to_string(range.bytes) + " bytes at " +
                                                 hex(range.address) + ", where no memory is");
    return false;
  }
  return true;
}

void Streams::run_user_code(Work& work, Lock& lock) {
  work.running = true;
  lock.unlock();
  in_user_code() = true;
  std::string thrown;
  try {
    work.body();
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  in_user_code() = false;
  lock.lock();
  work.running = false;
  if (!thrown.empty()) world_.reports.misuse(work.name + " threw: " + thrown);
}

bool Streams::step(Lock& lock) {
  const std::shared_ptr<Stream> stream = choose();
  if (stream == nullptr) return false;
  const std::shared_ptr<Work> work = stream->queue.front();
  const double ready = ready_seconds(*stream, *work);
  work->finished_seconds = work->line != nullptr ? work->line->occupy(ready, work->cost_seconds)
                                                 : ready + work->cost_seconds;
  stream->seconds = work->finished_seconds;

  Context* context = world_.contexts.find(stream->context);
  const bool alive = context == nullptr || context->broken == CUDA_SUCCESS;
  if (alive && !memory_is_there(*stream, *work)) {
    if (context != nullptr) context->broken = CUDA_ERROR_ILLEGAL_ADDRESS;
  } else if (alive && work->body && !work->calls_user_code) {
    work->body();
  } else if (alive && work->body) {
    run_user_code(*work, lock);
  }

  if (work->tells_host) world_.happens_before.host_learns(work->known);
  work->done = true;
  work->after.clear();
  work->uses_of.clear();
  work->body = nullptr;
  stream->queue.pop_front();
  drop_if_over(stream);
  changed_.notify_all();
  return true;
}

void Streams::learn(const Work& work) {
  world_.happens_before.host_learns(work.known);
  world_.time.not_before(work.finished_seconds);
}

void Streams::wait(const std::shared_ptr<Work>& work, Lock& lock) {
  while (!work->done) {
    if (!step(lock)) changed_.wait(lock);
  }
  const bool slept = work->finished_seconds > world_.time.now();
  learn(*work);
  if (slept) world_.time.now() += world_.time.delays.wake;
}

bool Streams::query(const std::shared_ptr<Work>& work, Lock& lock) {
  if (in_time_order_) {
    // What happens later than now is not known, even if another thread has waited for it.
    while (!work->done && step(lock)) {
    }
    if (!work->done || work->finished_seconds > world_.time.now()) return false;
  } else {
    for (std::uint64_t i = random_() % 3; i > 0 && !work->done; --i) step(lock);
  }
  if (work->done) learn(*work);
  return work->done;
}

std::vector<std::shared_ptr<Work>> Streams::last_of(CUcontext context) const {
  std::vector<std::shared_ptr<Work>> last;
  for (const auto& stream : all_) {
    if (stream->context == context && stream->last != nullptr) last.push_back(stream->last);
  }
  return last;
}

std::size_t Streams::forget(CUcontext context) {
  const auto of_it = [&](const auto& each) { return each.second->context == context; };
  std::size_t gone = std::erase_if(streams_, of_it);
  gone += std::erase_if(events_, [&](const auto& each) { return each.second.context == context; });
  std::erase_if(legacy_, of_it);
  std::erase_if(per_thread_, of_it);
  std::erase_if(all_, [&](const auto& each) { return each->context == context; });
  return gone;
}

void Streams::count(FakeCounts* counts) const {
  counts->streams = streams_.size();
  counts->events = events_.size();
  for (const auto& stream : all_) counts->queued += stream->queue.size();
}

void Streams::hold(CUstream handle, bool held) {
  const std::shared_ptr<Stream> stream = find(handle);
  if (stream == nullptr) return;
  stream->held = held;
  changed_.notify_all();
}

void Streams::seed(std::uint64_t seed) {
  in_time_order_ = seed == 0;
  random_.seed(seed);
}

}  // namespace fake
