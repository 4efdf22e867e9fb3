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

// One of each direction is prepared at a time. To prepare may be to wait for work that is queued,
// and whoever waited for later work would be missing elsewhere; and memory is mapped by one call at
// a time, so that the first copy begins the sooner.
bool TransferQueue::can_prepare(const Job& job) const {
  return job.ready_bytes < job.bytes && preparing_[index(job.direction)] == 0;
}

// The job to prepare before anything is copied, or the end: the first, and while that is copied to,
// the one after it. Memory is then mapped while the link is busy.
TransferQueue::Queue::iterator TransferQueue::next_to_prepare(Queue& queue) const {
  const auto first = queue.begin();
  if (can_prepare(**first)) return first;
  const auto second = std::next(first);
  const bool copied_to = (*first)->ready_bytes == (*first)->bytes;
  if (!copied_to || second == queue.end() || (*second)->ready_bytes > 0) return queue.end();
  return (*second)->direction == Direction::in && can_prepare(**second) ? second : queue.end();
}

// Called with the lock held. A job leaves its queue when its last chunk is taken, and while nothing
// of it is ready yet.
std::shared_ptr<Job> TransferQueue::take(std::size_t& offset, std::size_t& bytes) {
  for (std::size_t priority = 0; priority < priority_count; ++priority) {
    auto& queue = queues_[priority];
    if (queue.empty() || yields(priority)) continue;
    if (const auto next = next_to_prepare(queue); next != queue.end()) {
      const std::shared_ptr<Job> job = *next;
      ++busy_[index(job->direction)];
      ++preparing_[index(job->direction)];
      job->in_preparation = true;
      if (job->ready_bytes == 0) {
        not_ready_.splice(not_ready_.end(), queue, next);
        job->queued = false;
      }
      bytes = 0;
      return job;
    }
    const std::shared_ptr<Job> job = queue.front();
    if (job->next_offset == job->ready_bytes) continue;
    ++busy_[index(job->direction)];
    offset = job->next_offset;
    bytes = std::min(chunk_bytes_, job->ready_bytes - offset);
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

// Called with the lock held.
void TransferQueue::drop(const std::shared_ptr<Job>& job) {
  auto& queue = queues_[static_cast<std::size_t>(job->priority)];
  queue.erase(std::find(queue.begin(), queue.end(), job));
  job->queued = false;
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
  const bool prepares = bytes == 0;
  std::exception_ptr error;
  std::size_t ready_bytes = 0;
  try {
    if (prepares) {
      ready_bytes = job->prepare(*job);
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
    if (prepares) {
      --preparing_[index(job->direction)];
      job->in_preparation = false;
      if (job->ready_bytes == 0) {
        const auto place = std::find(not_ready_.begin(), not_ready_.end(), job);
        if (ready_bytes > 0) {
          auto& queue = queues_[static_cast<std::size_t>(job->priority)];
          const auto behind = std::find_if(queue.begin(), queue.end(), [](const auto& other) {
            return other->ready_bytes == 0;
          });
          queue.splice(behind, not_ready_, place);
          job->queued = true;
        } else {
          not_ready_.erase(place);
        }
      }
      job->ready_bytes = std::max(job->ready_bytes, ready_bytes);
    } else {
      --job->under_way;
    }
    if (job->error && job->queued) drop(job);
    ended = !job->queued && job->under_way == 0 && !job->in_preparation;
  }
  if (prepares) wake_.notify_all();
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
