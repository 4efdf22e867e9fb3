// Pinned host memory as the store: what a device copies to and from at the speed of its link.
//
// Contract, beyond store.h
// - Exact packing: a slot takes its bytes and no more, and any bytes that are free can be reserved,
//   however scattered. Offsets are names, not places: a slot may lie in several extents.
// - reserve never pins. Memory is pinned in the background from the start (slab_arena.h); reserve
//   waits for it only while too little is ready.
// - A slot that is released while a copy of it is under way is used for nothing else, and counts as
//   used, until the last of its copies has ended.
// - A copy the link refuses is a StoreError (EIO); a store that is full, one (ENOSPC) with numbers.
// - At destruction no call may be under way. All memory is then unpinned and given back.
//
// Σ bytes of slots == used_bytes() <= pinned_bytes() <= budget_bytes()
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/link.h"
#include "core/store.h"
#include "host/free_space.h"
#include "host/slab_arena.h"

namespace swapmem {

// A piece of pinned memory; the link copies it as one.
struct HostExtent {
  char* memory = nullptr;
  std::size_t bytes = 0;
};

// Calls f(part, at, done, bytes) for each part's share of [offset, offset + bytes), in order: it is
// `bytes` long, begins `at` bytes into the part, and `done` bytes came before it.
template <typename Part, typename F>
void for_each_part(const std::vector<Part>& parts, std::size_t offset, std::size_t bytes, F f) {
  std::size_t done = 0;
  for (const Part& part : parts) {
    if (done == bytes) return;
    if (offset >= part.bytes) {
      offset -= part.bytes;
      continue;
    }
    const std::size_t share = std::min(part.bytes - offset, bytes - done);
    f(part, offset, done, share);
    done += share;
    offset = 0;
  }
}

class PinnedStore : public Store {
 public:
  // Throws StoreError if not even the addresses can be had; memory that cannot be pinned is said in
  // notices(), and by reserve once there is too little.
  PinnedStore(std::shared_ptr<Link> link, std::size_t budget_bytes,
              std::size_t slab_bytes = std::size_t{64} << 20,
              ArenaCalls calls = ArenaCalls::system());

  Slot reserve(std::size_t bytes) override;
  std::optional<Slot> try_reserve(std::size_t bytes);  // none if the store is full
  void release(Slot slot) noexcept override;
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override;
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    read_queued(slot, offset, to, bytes, {});
  }
  void read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                   const Queued& queued) override;

  // Where a slot's bytes are. For an owner that sees to it itself that it does not release the slot
  // while it uses them.
  std::vector<HostExtent> memory(Slot slot) const;

  std::size_t used_bytes() const override;
  std::size_t peak_bytes() const override;
  std::size_t budget_bytes() const override { return arena_.budget_bytes(); }
  std::size_t pinned_bytes() const { return arena_.pinned_bytes(); }
  std::size_t free_bytes() const { return arena_.free_bytes(); }
  std::size_t capacity_bytes() const { return arena_.capacity_bytes(); }
  std::vector<std::string> notices() const override;

  std::size_t trim() override { return arena_.trim(); }
  void await_growth() { arena_.await_growth(); }

 private:
  struct Record {
    std::size_t bytes = 0;
    std::vector<Extent> extents;
    std::vector<HostExtent> memory;
    std::size_t copies = 0;  // under way
    bool released = false;
  };
  using Records = std::unordered_map<std::uint64_t, Record>;
  class Copying;

  void forget(std::unique_lock<std::mutex> lock, Records::iterator record) noexcept;
  template <typename Copy>
  void copy(const char* what, Slot slot, std::size_t offset, std::size_t bytes, Copy copy);

  const std::shared_ptr<Link> link_;
  SlabArena arena_;

  mutable std::mutex mutex_;
  Records records_;  // by offset of the slot: of its extent, or from names_ if it has several
  FreeSpace names_;
  std::size_t used_bytes_ = 0;
  std::size_t peak_bytes_ = 0;
};

}  // namespace swapmem
