// A tiered store over a link and a file that can be held and can fail.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/tiered_store.h"
#include "support/checked_link.h"
#include "support/faulty.h"
#include "support/gated.h"
#include "support/memory_store.h"
#include "support/refusals.h"
#include "support/slots.h"

namespace swapmem::test {

inline constexpr std::size_t piece_bytes = 4 * page_bytes;

// 64 pages of pinned memory are 2 buffers and 14 pieces; above 49 pages pieces move down.
inline constexpr std::size_t pinned_bytes = 64 * page_bytes;
inline constexpr std::size_t pinned_pieces = 14;
inline constexpr std::size_t pieces_below_mark = 12;
inline constexpr std::size_t buffers = 2;

// A file that fails as often as it is told to, and whose calls can be held when all is done but for
// their return.
class TroubledFile : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::atomic<int> failing_reserves{0}, failing_writes{0}, failing_reads{0};
  std::atomic<int> writes{0}, reads{0};
  Gate written, been_read;

  Slot reserve(std::size_t bytes) override {
    if (failing_reserves-- > 0) throw StoreError("no space on the device", ENOSPC);
    return inner_->reserve(bytes);
  }
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    ++writes;
    if (failing_writes-- > 0) throw StoreError("the disk does not write", EIO);
    inner_->write(slot, offset, from, bytes);
    written.pass();
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    ++reads;
    if (failing_reads-- > 0) throw StoreError("the disk does not read", EIO);
    inner_->read(slot, offset, to, bytes);
    been_read.pass();
  }
};

inline constexpr int for_ever = 1 << 30;

struct TieredSizes {
  std::size_t pinned = pinned_bytes;
  std::size_t file = 64 * page_bytes;
  std::size_t movers = 2;
};

// A store with the means to hold and to break what is under it. In the end the link has nothing to
// complain about, and nothing stays pinned.
struct Tiered {
  std::shared_ptr<CheckedLink> link = std::make_shared<CheckedLink>();
  TroubledFile* trouble = nullptr;
  GatedStore* file = nullptr;
  std::unique_ptr<TieredStore> store;

  explicit Tiered(const TieredSizes& options = {}, Faults* link_faults = nullptr,
                  Faults* file_faults = nullptr, std::size_t most_pinned_bytes = ~std::size_t{0}) {
    link->faults = link_faults;
    link->most_pinned_bytes = most_pinned_bytes;
    std::unique_ptr<Store> inner = std::make_unique<MemoryStore>(options.file);
    if (file_faults != nullptr) {
      inner = std::make_unique<FaultyStore>(std::move(inner), *file_faults);
    }
    auto troubled = std::make_unique<TroubledFile>(std::move(inner));
    trouble = troubled.get();
    auto gated = std::make_unique<GatedStore>(std::move(troubled));
    file = gated.get();
    TieredOptions tiered_options;
    tiered_options.piece_bytes = piece_bytes;
    tiered_options.movers = options.movers;
    store = std::make_unique<TieredStore>(
        link, std::make_unique<PinnedStore>(link, options.pinned, 16 * page_bytes),
        std::move(gated), tiered_options);
  }
  ~Tiered() noexcept(false) { end(store, *link); }
  TieredStore* operator->() const { return store.get(); }

  std::size_t in_memory() const { return store->pinned_tier().used_bytes; }
  std::size_t in_file() const { return store->file_tier().used_bytes; }
  void check_budgets() const {
    for (const TierUse& tier : {store->pinned_tier(), store->file_tier()}) {
      CHECK(tier.used_bytes <= tier.budget_bytes);
      CHECK(tier.peak_bytes <= tier.budget_bytes);
    }
    CHECK(store->used_bytes() <= store->budget_bytes());
  }
};

// So many slots of one piece each, written in order; the cookie is the place in the vector.
inline std::vector<Slot> write_pieces(Store& store, std::size_t count) {
  std::vector<Slot> slots;
  for (std::size_t n = 0; n < count; ++n) {
    slots.push_back(store.reserve(piece_bytes));
    write_cookie(store, slots.back(), n);
  }
  return slots;
}

inline void check_cookies(Store& store, const std::vector<Slot>& slots, std::size_t first = 0) {
  for (std::size_t n = first; n < slots.size(); ++n) CHECK(has_cookie(store, slots[n], n));
}

// Whether a condition holds for as long as other threads need to break it, if they would.
inline bool stays(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (!condition()) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace swapmem::test
