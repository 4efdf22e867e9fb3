// Pinned host memory, in slabs that are made ready in the background.
//
// Contract
// - Threads: every call may come from any thread, several at once.
// - Slabs are touched and then pinned by the arena's own threads, from construction on, several at
//   once. take never pins: it waits for slabs under way only while those that are ready are too
//   small.
// - What is free can be taken, however it is scattered: an extent lies in one slab, and what no
//   single extent can hold gets several.
// - Memory that cannot be had (a limit on locked pages, none left, a link that refuses) leaves a
//   smaller arena, and `failure` says why; trim lets the arena try again. A slab is not touched
//   while that would leave the machine or its control group without memory.
// - No lock is held across a call of the link or of the system that makes memory ready.
//
// taken + free + being unpinned == pinned_bytes() <= budget_bytes(), slabs being made included
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/link.h"
#include "host/free_space.h"

namespace swapmem {

// The system's side of the arena, so that tests can make it fail.
struct ArenaCalls {
  std::function<int(void*, std::size_t)> populate;  // 0, or errno
  std::function<std::size_t()> available_bytes;
  static ArenaCalls system();
};

class SlabArena {
 public:
  // Throws StoreError if not even the addresses can be had.
  SlabArena(std::shared_ptr<Link> link, std::size_t budget_bytes, std::size_t slab_bytes,
            ArenaCalls calls);
  ~SlabArena();  // unpins everything; nothing may be in use
  SlabArena(const SlabArena&) = delete;
  SlabArena& operator=(const SlabArena&) = delete;

  std::vector<Extent> take(std::size_t bytes);  // none if the arena is full
  void give(const std::vector<Extent>& extents) noexcept;
  char* at(std::uint64_t offset) const { return base_ + offset; }
  std::uint64_t end_offset() const { return slabs_.size() * stride_bytes_; }

  std::size_t budget_bytes() const { return budget_bytes_; }
  std::size_t pinned_bytes() const;
  std::size_t free_bytes() const;      // to be had without waiting
  std::size_t capacity_bytes() const;  // the budget, or what there is once growth has failed
  std::string failure() const;         // "" as long as nothing was refused
  // Unpins slabs that are free, unless somebody waits for more; returns their bytes.
  std::size_t trim();
  void await_growth();  // until no slab is to be made

 private:
  using Lock = std::unique_lock<std::mutex>;
  enum class State : std::uint8_t { absent, growing, ready, leaving };

  void grow();
  bool should_grow() const;
  std::string make_ready(std::size_t slab, std::size_t growing_bytes) noexcept;
  std::string populate(std::size_t slab, std::size_t growing_bytes);
  void discard(std::size_t slab) noexcept;
  bool await_room(Lock& lock, std::size_t bytes);
  void stop() noexcept;
  std::size_t bytes_of(std::size_t slab) const;
  Extent extent_of(std::size_t slab) const { return {slab * stride_bytes_, bytes_of(slab)}; }

  const std::shared_ptr<Link> link_;
  const ArenaCalls calls_;
  const std::size_t budget_bytes_;
  const std::size_t slab_bytes_;
  // Slabs stand apart, in offsets as in addresses, so that their extents never join.
  const std::size_t stride_bytes_;
  void* region_ = nullptr;
  std::size_t region_bytes_ = 0;
  char* base_ = nullptr;

  // growing_ + ready_ <= wanted_ <= slabs_.size()
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<State> slabs_;
  std::size_t wanted_ = 0;
  std::size_t growing_ = 0;
  std::size_t ready_ = 0;
  std::size_t leaving_ = 0;
  std::size_t growing_bytes_ = 0;
  std::size_t pinned_bytes_ = 0;
  std::size_t taken_bytes_ = 0;
  std::size_t waiting_ = 0;  // takes that wait for slabs
  FreeSpace free_;
  std::string failure_;
  std::vector<std::thread> threads_;
};

}  // namespace swapmem
