#include "core/transfer.h"

#include <algorithm>

#include "core/clock.h"

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
  {
    std::lock_guard lock(mutex_);
    job->priority = priority;
    job->queued = true;
    queues_[static_cast<std::size_t>(priority)].push_back(job);
  }
  wake_.notify_all();
}

void TransferQueue::raise(const std::shared_ptr<Job>& job, Priority priority) {
  std::lock_guard lock(mutex_);
  if (priority >= job->priority) return;
  if (job->queued) {
    auto& from = queues_[static_cast<std::size_t>(job->priority)];
    from.erase(std::find(from.begin(), from.end(), job));
    queues_[static_cast<std::size_t>(priority)].push_back(job);
  }
  job->priority = priority;
}

bool TransferQueue::yields(std::size_t priority) const {
  return priority == static_cast<std::size_t>(Priority::demand_out) &&
         2 * (busy_with_out_ + 1) > workers_.size() && workers_.size() > 1 &&
         !queues_[static_cast<std::size_t>(Priority::prefetch)].empty();
}

// Called with the lock held. A job leaves its queue when its last chunk is taken, and while it is
// being prepared.
std::shared_ptr<Job> TransferQueue::take(std::size_t& offset, std::size_t& bytes) {
  for (std::size_t priority = 0; priority < priority_count; ++priority) {
    auto& queue = queues_[priority];
    if (queue.empty() || yields(priority)) continue;
    std::shared_ptr<Job> job = queue.front();
    if (job->direction == Direction::out) ++busy_with_out_;
    if (!job->prepared) {
      queue.pop_front();
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

void TransferQueue::run(const std::shared_ptr<Job>& job, std::size_t offset, std::size_t bytes) {
  std::exception_ptr error;
  bool wanted = true;
  try {
    if (bytes == 0) {
      job->started_seconds = now_seconds();
      wanted = job->prepare(*job);
    } else if (job->direction == Direction::out) {
      store_.write(job->slot, offset, reinterpret_cast<const void*>(job->address + offset), bytes);
    } else {
      store_.read(job->slot, offset, reinterpret_cast<void*>(job->address + offset), bytes);
    }
  } catch (...) {
    error = std::current_exception();
  }

  bool ended = false;
  {
    std::lock_guard lock(mutex_);
    if (job->direction == Direction::out) --busy_with_out_;
    if (error && !job->error) job->error = error;
    if (bytes == 0) {
      job->prepared = true;
      if (wanted && !job->error) {
        job->queued = true;
        queues_[static_cast<std::size_t>(job->priority)].push_front(job);
      } else {
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
  if (ended) {
    job->complete(*job);
  } else if (bytes == 0) {
    wake_.notify_all();
  }
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
