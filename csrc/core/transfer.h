// Copies between memory and the store, by worker threads.
//
// A job is cut into chunks that any worker may take, so that one large job fills a deep queue and
// an urgent job waits for the chunks under way only, never for a whole job.
//
// Contract
// - `prepare` is called once, by a worker, before the first chunk; it fills in address and slot.
//   If it returns false the job ends without a copy and without an error.
// - `complete` is called once, by the worker that ends the job; `error` is null on success. After
//   an error no further chunk is started.
// - Neither is called with a lock of the queue held; neither may throw out of `complete`.
// - The destructor finishes every job that was submitted.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/device.h"
#include "core/store.h"

namespace swapmem {

enum class Direction { out, in };

// First come those that somebody waits for. While blocks are to be prefetched, copies out leave
// them half of the workers: a link carries both directions at once.
enum class Priority : std::size_t { demand_in, demand_out, prefetch, background };
constexpr std::size_t priority_count = 4;

struct Job {
  Direction direction = Direction::out;
  Address address = 0;
  Slot slot;
  std::size_t bytes = 0;
  std::function<bool(Job&)> prepare;
  std::function<void(Job&)> complete;

  // Owned by the queue until `complete`.
  Priority priority = Priority::background;
  bool queued = false;
  bool prepared = false;
  std::size_t next_offset = 0;  // chunks below were taken
  std::size_t under_way = 0;    // chunks taken and not ended
  std::exception_ptr error;
  double started_seconds = 0;

  // Owned by the engine (under its lock).
  bool cancelled = false;  // cleaning: the block was written or freed meanwhile
  bool preparing = false;
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
  void work();
  std::shared_ptr<Job> take(std::size_t& offset, std::size_t& bytes);
  bool yields(std::size_t priority) const;
  void run(const std::shared_ptr<Job>& job, std::size_t offset, std::size_t bytes);

  Store& store_;
  const std::size_t chunk_bytes_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::array<std::deque<std::shared_ptr<Job>>, priority_count> queues_;
  std::size_t busy_with_out_ = 0;  // workers
  std::vector<std::thread> workers_;
};

}  // namespace swapmem
