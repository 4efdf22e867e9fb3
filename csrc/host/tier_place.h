// Room in a tier of the tiered store: counted against the tier's budget, and given back when the
// last who uses it lets go of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "core/store.h"
#include "host/pinned_store.h"

namespace swapmem {

struct TierUse {
  std::size_t used_bytes;
  std::size_t peak_bytes;
  std::size_t budget_bytes;
};

// A hard budget that several threads charge at once: used_bytes <= budget_bytes.
class Tier {
 public:
  explicit Tier(std::size_t budget_bytes) : budget_bytes_(budget_bytes) {}
  bool charge(std::size_t bytes) {
    std::size_t used = used_bytes_;
    do {
      if (bytes > budget_bytes_ - used) return false;
    } while (!used_bytes_.compare_exchange_weak(used, used + bytes));
    std::size_t peak = peak_bytes_;
    while (peak < used + bytes && !peak_bytes_.compare_exchange_weak(peak, used + bytes)) {
    }
    return true;
  }
  void discharge(std::size_t bytes) { used_bytes_ -= bytes; }
  std::size_t used_bytes() const { return used_bytes_; }
  std::size_t budget_bytes() const { return budget_bytes_; }
  std::size_t room_bytes() const { return budget_bytes_ - used_bytes_; }
  TierUse use() const { return {used_bytes_, peak_bytes_, budget_bytes_}; }

 private:
  const std::size_t budget_bytes_;
  std::atomic<std::size_t> used_bytes_{0};
  std::atomic<std::size_t> peak_bytes_{0};
};

// One place of bytes: slots of the tier's store, their charge, and where they are in memory.
// Charged first and filled then; released before the charge ends, so that the tier never has more
// than its budget.
class TierPlace {
 public:
  TierPlace(Tier& tier, Store& store, std::size_t bytes)
      : tier_(tier), store_(store), bytes_(tier.charge(bytes) ? bytes : 0) {}
  ~TierPlace() {
    for (const Slot& slot : slots_) {
      if (slot) store_.release(slot);
    }
    tier_.discharge(bytes_);
  }
  TierPlace(const TierPlace&) = delete;
  TierPlace& operator=(const TierPlace&) = delete;

  bool charged() const { return bytes_ != 0; }
  Slot& add_slot() { return slots_.emplace_back(); }  // to be filled in; may fail, as it allocates
  void set_memory(std::vector<HostExtent> memory) { memory_ = std::move(memory); }

  const std::vector<Slot>& slots() const { return slots_; }
  const std::vector<HostExtent>& memory() const { return memory_; }
  bool in_memory() const { return !memory_.empty(); }  // or in the file

 private:
  Tier& tier_;
  Store& store_;
  const std::size_t bytes_;
  std::vector<Slot> slots_;
  std::vector<HostExtent> memory_;
};

}  // namespace swapmem
