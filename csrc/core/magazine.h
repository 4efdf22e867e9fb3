// The last freed block of each size, for the next array of that size, without the engine's lock.
//
// A program that makes and drops arrays in a loop asks for the same block again and again. While
// nothing is held and nothing was ever swapped, a block may change hands without the engine
// noticing: it is resident and writable, and no accounting depends on who has it.
//
// To the engine a block in the magazine is still allocated. `drain` returns them all.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/device.h"
#include "core/size_class.h"

namespace swapmem {

class Magazine {
 public:
  explicit Magazine(Span region) : base_(region.address) {}

  // Pages are compared, not classes: the engine knows the size that was first asked for.
  Address take(std::size_t bytes) {
    const std::uint64_t pages = pages_of(bytes);
    if (pages > most_pages) return 0;
    auto& slot = slots_[size_class(bytes).index];
    std::uint64_t entry = slot.load(std::memory_order_relaxed);
    if (entry == 0 || entry >> granule_bits != pages) return 0;
    if (!slot.compare_exchange_strong(entry, 0, std::memory_order_acquire)) return 0;
    return base_ + (entry & granule_mask) * min_block_bytes - min_block_bytes;
  }

  // False if the slot is taken or the block is too large: it has to be freed.
  bool put(Address address, std::size_t bytes) {
    const std::uint64_t pages = pages_of(bytes);
    const std::uint64_t granule = (address - base_) / min_block_bytes + 1;
    if (pages > most_pages || granule > granule_mask) return false;
    auto& slot = slots_[size_class(bytes).index];
    std::uint64_t empty = 0;
    if (!slot.compare_exchange_strong(empty, pages << granule_bits | granule,
                                      std::memory_order_release)) {
      return false;
    }
    filled_.store(true, std::memory_order_release);
    return true;
  }

  // Calls f(address) for every block in it, and empties it.
  template <typename F>
  void drain(F f) {
    if (!filled_.load(std::memory_order_relaxed)) return;
    filled_.exchange(false, std::memory_order_acquire);
    for (auto& slot : slots_) {
      if (slot.load(std::memory_order_relaxed) == 0) continue;
      if (const std::uint64_t entry = slot.exchange(0, std::memory_order_acquire)) {
        f(base_ + (entry & granule_mask) * min_block_bytes - min_block_bytes);
      }
    }
  }

 private:
  // entry = pages of the block << granule_bits | number of its first granule + 1; 0 is empty
  static constexpr unsigned granule_bits = 36;
  static constexpr std::uint64_t granule_mask = (std::uint64_t{1} << granule_bits) - 1;
  static constexpr std::uint64_t most_pages = (std::uint64_t{1} << (64 - granule_bits)) - 1;

  static std::uint64_t pages_of(std::size_t bytes) { return (bytes + page_bytes - 1) / page_bytes; }

  const Address base_;
  std::array<std::atomic<std::uint64_t>, size_class_count> slots_{};
  // Whether a slot may be filled. Said after it was, and taken back before it is looked at, so that
  // no block is forgotten.
  std::atomic<bool> filled_{false};
};

}  // namespace swapmem
