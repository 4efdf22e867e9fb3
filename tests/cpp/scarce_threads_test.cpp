// Stores that are given fewer threads than they ask for: they make do with those, and without any
// they are refused with the reason and leave nothing.
#include <cerrno>
#include <memory>
#include <string>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/tiered_store.h"
#include "support/checked_link.h"
#include "support/memory_store.h"
#include "support/scarce_threads.h"
#include "support/slots.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t slab_bytes = 16 * page_bytes;
constexpr std::size_t pinned_bytes = 4 * slab_bytes;
constexpr std::size_t file_bytes = 8 * slab_bytes;

template <typename F>
void check_no_thread(F open) {
  try {
    open();
    CHECK(false);
  } catch (const StoreError& error) {
    CHECK_EQUAL(error.code, EAGAIN);
    CHECK(std::string(error.what()).find("cannot start a thread") != std::string::npos);
  }
}

// Fills the store to the last byte and finds everything again.
void check_all_of_it_works(Store& store) {
  std::vector<Slot> slots;
  for (std::size_t left = store.budget_bytes(); left > 0; left -= slots.back().bytes) {
    slots.push_back(store.reserve(std::min(left, 3 * page_bytes)));
    write_cookie(store, slots.back(), slots.size());
  }
  for (std::size_t n = 0; n < slots.size(); ++n) CHECK(has_cookie(store, slots[n], n + 1));
}

// The pinned store has its threads; the movers of the tiered one are scarce.
std::unique_ptr<TieredStore> tiered_store(const std::shared_ptr<CheckedLink>& link,
                                          std::uint64_t nth) {
  auto pinned = std::make_unique<PinnedStore>(link, pinned_bytes, slab_bytes);
  pinned->await_growth();
  auto file = std::make_unique<MemoryStore>(file_bytes);
  const ScarceThreads scarce(nth);
  return std::make_unique<TieredStore>(link, std::move(pinned), std::move(file));
}

}  // namespace

TEST(scarce_threads, a_pinned_store_makes_do_with_the_threads_it_gets) {
  const auto link = std::make_shared<CheckedLink>();
  {
    const ScarceThreads scarce(2);
    PinnedStore store(link, pinned_bytes, slab_bytes);
    check_all_of_it_works(store);
    CHECK_EQUAL(link->pinning_threads().size(), 1u);
  }
  CHECK_EQUAL(link->pinned_bytes(), 0u);
}

TEST(scarce_threads, a_pinned_store_that_gets_none_is_refused) {
  const auto link = std::make_shared<CheckedLink>();
  {
    const ScarceThreads scarce(1);
    check_no_thread([&] { PinnedStore store(link, pinned_bytes, slab_bytes); });
  }
  CHECK_EQUAL(link.use_count(), 1);
  PinnedStore store(link, pinned_bytes, slab_bytes);  // of the next one nothing is in the way
  check_all_of_it_works(store);
}

TEST(scarce_threads, a_tiered_store_makes_do_with_the_movers_it_gets) {
  const auto link = std::make_shared<CheckedLink>();
  {
    const auto store = tiered_store(link, 2);
    check_all_of_it_works(*store);
    CHECK(store->file_tier().used_bytes > 0);
  }
  CHECK_EQUAL(link->complaint(), "");
  CHECK_EQUAL(link->pinned_bytes(), 0u);
}

TEST(scarce_threads, a_tiered_store_that_gets_no_mover_is_refused) {
  const auto link = std::make_shared<CheckedLink>();
  check_no_thread([&] { tiered_store(link, 1); });
  CHECK_EQUAL(link->complaint(), "");
  CHECK_EQUAL(link->pinned_bytes(), 0u);
  CHECK_EQUAL(link.use_count(), 1);
}
