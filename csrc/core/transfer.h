// Copies between memory and the store, by worker threads.
//
// A job is cut into chunks that any worker may take, so that one large job fills a deep queue and
// an urgent job waits for the chunks under way only, never for a whole job.
//
// Contract
// - `prepare` is called by one worker at a time, before the first chunk and then until all of the
//   job is ready, while what is ready is copied. It returns how many bytes are, from the first on;
//   at first it fills in address and slot. If it returns 0 the job ends without a copy and without
//   an error.
// - `complete` is called once, by the worker that ends the job; `error` is null on success. After
//   an error no further chunk is started.
// - `arriving` is called at most once, by a worker, before `complete`: the store has told of every
//   chunk that its copy is queued. `arrival` is then what work has to be ordered after.
// - None is called with a lock of the queue held; nothing may be thrown out of `complete`.
// - `submit` may throw std::bad_alloc, and has then done nothing; all that follows needs no memory.
// - The destructor finishes every job that was submitted.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/device.h"
#include "core/store.h"

namespace swapmem {

enum class Direction { out, in };

// First come those that somebody waits for. While there is work of both directions, neither takes
// more than half of the workers from the other, but for the background: a link carries both at
// once.
enum class Priority : std::size_t { demand_in, demand_out, prefetch, background };
constexpr std::size_t priority_count = 4;

struct Job {
  Direction direction = Direction::out;
  Address address = 0;
  Slot slot;
  std::size_t bytes = 0;
  std::function<std::size_t(Job&)> prepare;
  std::function<void(Job&)> arriving;
  std::function<void(Job&)> complete;

  // Owned by the queue until `complete`.
  Priority priority = Priority::background;
  bool queued = false;
  bool in_preparation = false;
  std::size_t ready_bytes = 0;
  std::size_t next_offset = 0;   // chunks below were taken; <= ready_bytes
  std::size_t under_way = 0;     // chunks taken and not ended
  std::size_t queued_bytes = 0;  // of chunks whose copies are queued; <= next_offset
  Fences arrival;                // of these
  std::exception_ptr error;

  // Owned by the engine (under its lock).
  bool preparing = false;
  double begun_seconds = 0;        // as LinkTime counts; 0 before
  double both_seconds_before = 0;  // LinkTime::both_seconds then
  // The same, but read by workers at any time: no further chunk of a copy out is then copied.
  std::atomic<bool> cancelled{false};  // cleaning: the block was written or freed meanwhile
};

class TransferQueue {
 public:
  TransferQueue(Store& store, std::size_t workers, std::size_t chunk_bytes);
  ~TransferQueue();
  TransferQueue(const TransferQueue&) = delete;
  TransferQueue& operator=(const TransferQueue&) = delete;

  void submit(const std::shared_ptr<Job>& job, Priority priority);
  // Moves a job that has chunks left forward; never back.
  void raise(const std::shared_ptr<Job>& job, Priority priority);

 private:
  using Queue = std::list<std::shared_ptr<Job>>;  // whose nodes go from one to another

  static constexpr std::size_t index(Direction direction) {
    return static_cast<std::size_t>(direction);
  }

  void work();
  std::shared_ptr<Job> take(std::size_t& offset, std::size_t& bytes);
  bool yields(std::size_t priority) const;
  bool can_prepare(const Job& job) const;
  Queue::iterator next_to_prepare(Queue& queue) const;
  void drop(const std::shared_ptr<Job>& job);
  void run(const std::shared_ptr<Job>& job, std::size_t offset, std::size_t bytes);
  void read(Job& job, std::size_t offset, std::size_t bytes);

  Store& store_;
  const std::size_t chunk_bytes_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::array<Queue, priority_count> queues_;  // those of which something is ready first
  Queue not_ready_;                           // nothing of them yet; they are in preparation
  std::array<std::size_t, 2> busy_{};         // workers, by direction
  std::array<std::size_t, 2> preparing_{};    // jobs, by direction
  std::vector<std::thread> workers_;
};

}  // namespace swapmem
