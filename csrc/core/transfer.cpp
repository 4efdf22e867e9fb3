#include "core/transfer.h"

#include <algorithm>

namespace swapmem {

TransferQueue::TransferQueue(Store& store, std::size_t workers, std::size_t chunk_bytes)
    : store_(store), chunk_bytes_(chunk_bytes) {
  workers_.reserve(workers);
  for (std::size_t i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
}

TransferQueue::~TransferQueue() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void TransferQueue::submit(const std::shared_ptr<Job>& job, Priority priority) {
  Queue added{job};
  {
    std::lock_guard lock(mutex_);
    job->priority = priority;
    job->queued = true;
    auto& queue = queues_[static_cast<std::size_t>(priority)];
    queue.splice(queue.end(), added);
  }
  wake_.notify_all();
}

void TransferQueue::raise(const std::shared_ptr<Job>& job, Priority priority) {
  std::lock_guard lock(mutex_);
  if (priority >= job->priority) return;
  if (job->queued) {
    auto& from = queues_[static_cast<std::size_t>(job->priority)];
    auto& to = queues_[static_cast<std::size_t>(priority)];
    to.splice(to.end(), from, std::find(from.begin(), from.end(), job));
  }
  job->priority = priority;
}

bool TransferQueue::yields(std::size_t priority) const {
  const auto waits = [&](Priority other) {
    return !queues_[static_cast<std::size_t>(other)].empty();
  };
  const std::size_t workers = workers_.size();
  if (workers < 2) return false;
  switch (static_cast<Priority>(priority)) {
    case Priority::demand_in:
      return 2 * busy_[index(Direction::in)] >= workers && waits(Priority::demand_out);
    case Priority::demand_out:
      return 2 * (busy_[index(Direction::out)] + 1) > workers &&
             (waits(Priority::demand_in) || waits(Priority::prefetch));
    default:
      return false;
  }
}

// The job to serve next: the first, or, while the first is copied and nobody prepares another, the
// first that is to be filled after it. Memory is then mapped while the link is busy.
TransferQueue::Queue::iterator TransferQueue::next_of(Queue& queue) const {
  const auto first = queue.begin();
  if (preparing_[index(Direction::in)] > 0 || !(*first)->prepared) return first;
  const auto second = std::next(first);
  if (second == queue.end() || (*second)->prepared) return first;
  return (*second)->direction == Direction::in ? second : first;
}

// Called with the lock held. A job leaves its queue when its last chunk is taken, and while it is
// being prepared.
std::shared_ptr<Job> TransferQueue::take(std::size_t& offset, std::size_t& bytes) {
  for (std::size_t priority = 0; priority < priority_count; ++priority) {
    auto& queue = queues_[priority];
    if (queue.empty() || yields(priority)) continue;
    const auto next = next_of(queue);
    // One of each direction is prepared at a time. To prepare may be to wait for work that is
    // queued, and whoever waited for later work would be missing elsewhere; and memory is mapped by
    // one call at a time, so that the first copy begins the sooner.
    if (!(*next)->prepared && preparing_[index((*next)->direction)] > 0) continue;
    std::shared_ptr<Job> job = *next;
    ++busy_[index(job->direction)];
    if (!job->prepared) {
      ++preparing_[index(job->direction)];
      in_preparation_.splice(in_preparation_.end(), queue, next);
      job->queued = false;
      bytes = 0;
      return job;
    }
    offset = job->next_offset;
    bytes = std::min(chunk_bytes_, job->bytes - offset);
    job->next_offset += bytes;
    ++job->under_way;
    if (job->next_offset == job->bytes) {
      queue.pop_front();
      job->queued = false;
    }
    return job;
  }
  return nullptr;
}

void TransferQueue::read(Job& job, std::size_t offset, std::size_t bytes) {
  const auto queued = [&](Fence fence) {
    std::unique_lock lock(mutex_);
    job.arrival.add(fence);
    job.queued_bytes += bytes;
    const bool all = job.queued_bytes == job.bytes && !job.error;
    lock.unlock();
    if (all && job.arriving) job.arriving(job);
  };
  store_.read_queued(job.slot, offset, reinterpret_cast<void*>(job.address + offset), bytes,
                     queued);
}

void TransferQueue::run(const std::shared_ptr<Job>& job, std::size_t offset, std::size_t bytes) {
  std::exception_ptr error;
  bool wanted = true;
  try {
    if (bytes == 0) {
      wanted = job->prepare(*job);
    } else if (job->direction == Direction::out) {
      const void* const from = reinterpret_cast<const void*>(job->address + offset);
      if (!job->cancelled) store_.write(job->slot, offset, from, bytes);
    } else {
      read(*job, offset, bytes);
    }
  } catch (...) {
    error = std::current_exception();
  }

  bool ended = false;
  {
    std::lock_guard lock(mutex_);
    --busy_[index(job->direction)];
    if (error && !job->error) job->error = error;
    if (bytes == 0) {
      job->prepared = true;
      --preparing_[index(job->direction)];
      const auto prepared = std::find(in_preparation_.begin(), in_preparation_.end(), job);
      if (wanted && !job->error) {
        job->queued = true;
        auto& queue = queues_[static_cast<std::size_t>(job->priority)];
        const auto place = std::find_if(queue.begin(), queue.end(),
                                        [](const auto& other) { return !other->prepared; });
        queue.splice(place, in_preparation_, prepared);
      } else {
        in_preparation_.erase(prepared);
        ended = true;
      }
    } else {
      --job->under_way;
      if (job->error && job->queued) {
        auto& queue = queues_[static_cast<std::size_t>(job->priority)];
        queue.erase(std::find(queue.begin(), queue.end(), job));
        job->queued = false;
      }
      ended = !job->queued && job->under_way == 0;
    }
  }
  if (bytes == 0) wake_.notify_all();
  if (ended) job->complete(*job);
}

void TransferQueue::work() {
  std::unique_lock lock(mutex_);
  // A job that another worker is preparing is in no queue; that worker serves it, so leaving
  // while it does is safe.
  while (true) {
    std::size_t offset = 0;
    std::size_t bytes = 0;
    if (std::shared_ptr<Job> job = take(offset, bytes)) {
      lock.unlock();
      run(job, offset, bytes);
      job.reset();  // its last owner may run code of the engine: not under this lock
      lock.lock();
    } else if (stopping_) {
      return;
    } else {
      wake_.wait(lock);
    }
  }
}

}  // namespace swapmem
