// Stores whose bookkeeping cannot be given memory: an error with its code, and nothing is lost.
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/host_link.h"
#include "host/pinned_store.h"
#include "support/kinds.h"
#include "support/scarce_memory.h"
#include "support/slots.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t budget_bytes = 64 * page_bytes;

// Takes and gives back everything there is, to see that nothing was lost.
void check_whole(Store& store) {
  CHECK_EQUAL(store.used_bytes(), 0u);
  const Slot all = store.reserve(store.budget_bytes());
  store.release(all);
}

// Reserves with the first, second, ... allocation failing until none does.
void reserve_with_scarce_memory(Store& store, std::size_t bytes) {
  const std::size_t used_bytes = store.used_bytes();
  for (std::uint64_t nth = 1;; ++nth) {
    bool ran_out = false;
    Slot slot;
    int code = 0;
    {
      const ScarceMemory scarce(nth);
      try {
        slot = store.reserve(bytes);
      } catch (const StoreError& error) {
        code = error.code;
      }
      ran_out = scarce.ran_out();
    }
    if (slot) {
      write_cookie(store, slot, nth);
      CHECK(has_cookie(store, slot, nth));
      store.release(slot);
    } else {
      CHECK(ran_out);
      CHECK_EQUAL(code, ENOMEM);
    }
    CHECK_EQUAL(store.used_bytes(), used_bytes);
    if (!ran_out) {
      CHECK(nth > 1);
      return;
    }
  }
}

}  // namespace

TEST(scarce_memory, a_pinned_store_that_gets_none_for_its_bookkeeping_loses_nothing) {
  PinnedStore store(std::make_shared<HostLink>(), budget_bytes, 16 * page_bytes);
  store.await_growth();
  reserve_with_scarce_memory(store, 3 * page_bytes);
  // Free memory in pieces, so that a slot takes several.
  std::vector<Slot> slots;
  for (int i = 0; i < 64; ++i) slots.push_back(store.reserve(page_bytes));
  for (std::size_t i = 0; i < slots.size(); i += 2) store.release(slots[i]);
  reserve_with_scarce_memory(store, 8 * page_bytes);
  for (std::size_t i = 1; i < slots.size(); i += 2) store.release(slots[i]);
  check_whole(store);
}

TEST(scarce_memory, a_tiered_store_that_gets_none_for_its_bookkeeping_loses_nothing) {
  for (const StoreKind& kind : all_stores()) {
    if (kind.name != "tiered") continue;
    const auto store = kind.make(budget_bytes);
    reserve_with_scarce_memory(*store, 8 * page_bytes);
    check_whole(*store);
  }
}

TEST(scarce_memory, a_hint_that_gets_none_is_not_followed_and_nothing_is_lost) {
  for (const StoreKind& kind : all_stores()) {
    if (kind.name != "tiered") continue;
    const auto store = kind.make(budget_bytes);
    const Slot slot = store->reserve(8 * page_bytes);
    write_cookie(*store, slot, 1);
    {
      const ScarceMemory scarce(1);
      store->soon(slot);
      CHECK(scarce.ran_out());
    }
    store->soon(slot);
    CHECK(has_cookie(*store, slot, 1));
    store->release(slot);
    check_whole(*store);
  }
}

namespace {

// Whoever pins gets no memory for what it does next.
class ExhaustingLink : public HostLink {
 public:
  void pin(void*, std::size_t) override {
    ++pins;
    static thread_local std::unique_ptr<ScarceMemory> scarce;
    scarce.reset();
    scarce = std::make_unique<ScarceMemory>(1);
  }
  void unpin(void*, std::size_t) noexcept override { --pins; }
  std::atomic<int> pins{0};
};

}  // namespace

TEST(scarce_memory, what_is_pinned_and_cannot_be_remembered_is_unpinned_and_the_reason_said) {
  const auto link = std::make_shared<ExhaustingLink>();
  PinnedStore store(link, budget_bytes, 16 * page_bytes);
  store.await_growth();
  CHECK_EQUAL(store.pinned_bytes(), 0u);
  CHECK_EQUAL(link->pins.load(), 0);
  CHECK(store.notices().at(0).find("out of memory") != std::string::npos);
}
