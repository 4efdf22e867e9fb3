// The tiered store: what becomes of a file or a link that fails.
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "support/bytes.h"
#include "support/tiered.h"

using namespace swapmem;
using namespace swapmem::test;

TEST(tiered_store, a_failed_move_leaves_the_bytes_and_is_tried_again_when_asked) {
  Tiered tiered;
  tiered.trouble->failing_writes = for_ever;
  std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark + 1);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->writes.load(), 1);
  slots.push_back(tiered->reserve(piece_bytes));
  write_cookie(*tiered.store, slots.back(), pieces_below_mark + 1);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->writes.load(), 1);  // nobody asked
  CHECK_EQUAL(tiered.in_memory(), pinned_pieces * piece_bytes);
  CHECK_EQUAL(tiered.in_file(), 0u);
  bool said = false;
  for (const std::string& notice : tiered->notices()) {
    said = said || names(notice, "the disk does not write");
  }
  CHECK(said);
  const Slot more = tiered->reserve(piece_bytes);  // asks; its place is in the file after all
  CHECK(tiered.trouble->writes >= 2);
  CHECK_EQUAL(tiered.in_file(), piece_bytes);
  CHECK(names(refusal([&] { write_cookie(*tiered.store, more, 99); }, EIO), "does not write"));
  check_cookies(*tiered.store, slots);
  tiered->release(more);
  tiered.trouble->failing_writes = 0;
  slots.push_back(tiered->reserve(piece_bytes));
  write_cookie(*tiered.store, slots.back(), slots.size() - 1);
  tiered->settle();
  CHECK_EQUAL(tiered.in_memory(), pieces_below_mark * piece_bytes);
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, a_disk_that_is_full_before_its_budget_is_an_error_with_its_reason) {
  Tiered tiered;
  tiered.trouble->failing_reserves = for_ever;
  const std::vector<Slot> slots = write_pieces(*tiered.store, pinned_pieces);
  const std::string text = refusal([&] { tiered->reserve(piece_bytes); }, ENOSPC);
  CHECK(names(text, "no space on the device"));
  CHECK_EQUAL(tiered->used_bytes(), pinned_pieces * piece_bytes);
  CHECK_EQUAL(tiered.in_file(), 0u);
  check_cookies(*tiered.store, slots);
  tiered->release(slots[0]);
  write_cookie(*tiered.store, tiered->reserve(piece_bytes), 1);
}

TEST(tiered_store, a_file_in_small_pieces_takes_a_large_one_in_parts) {
  Tiered tiered;
  // As fragmented as can be: only single pages.
  class Pages : public MemoryStore {
   public:
    using MemoryStore::MemoryStore;
    Slot reserve(std::size_t bytes) override {
      if (bytes > page_bytes) throw StoreError("no piece so large", ENOSPC);
      return MemoryStore::reserve(bytes);
    }
  };
  auto link = std::make_shared<CheckedLink>();
  TieredStore store(link, std::make_unique<PinnedStore>(link, pinned_bytes, 16 * page_bytes),
                    std::make_unique<Pages>(64 * page_bytes), {piece_bytes, 2});
  const std::vector<Slot> slots = write_pieces(store, 30);
  store.settle();
  check_cookies(store, slots);
  Memory part(3 * page_bytes);
  store.read(slots[0], page_bytes, part.data(), 3 * page_bytes);
  Memory whole(piece_bytes);
  fill(whole.address(), piece_bytes, 0);
  CHECK(std::equal(static_cast<char*>(part.data()),
                   static_cast<char*>(part.data()) + 3 * page_bytes,
                   static_cast<char*>(whole.data()) + page_bytes));
}

TEST(tiered_store, a_read_from_either_tier_is_queued_once_with_its_last_part) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
  const Slot large = tiered->reserve(3 * piece_bytes);
  write_cookie(*tiered.store, large, 20);
  tiered->settle();
  CHECK(tiered.in_file() > 0);
  for (const Slot slot : {slots[0], slots[19], large}) {
    const std::vector<Fence> fences = fences_of_read(*tiered.store, slot);
    CHECK(fences == std::vector{Fence{1} << fence_stream_shift | tiered.link->copied_in});
  }
}

TEST(tiered_store, a_read_that_fails_leaves_the_slot) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
  tiered->settle();
  tiered.trouble->failing_reads = 1;
  CHECK(names(refusal([&] { has_cookie(*tiered.store, slots[0], 0); }, EIO), "does not read"));
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, a_failed_move_up_leaves_the_slot_in_the_file) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
  tiered->settle();
  tiered->release(slots[19]);
  tiered.trouble->failing_reads = 1;
  const std::size_t in_file = tiered.in_file();
  tiered->soon(slots[0]);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->reads.load(), 1);
  CHECK_EQUAL(tiered.in_file(), in_file);
  for (std::size_t n = 0; n < 19; ++n) CHECK(has_cookie(*tiered.store, slots[n], n));
}

TEST(tiered_store, a_copy_the_link_refuses_is_an_error_and_leaves_the_other_slots) {
  for (const std::size_t n : {0, 19}) {  // in the file, in pinned memory
    Tiered tiered;
    const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
    tiered->settle();
    Faults faults(1, false);
    tiered.link->faults = &faults;
    CHECK(names(refusal([&] { has_cookie(*tiered.store, slots[n], n); }, EIO), "injected"));
    Faults again(1, false);
    tiered.link->faults = &again;
    refusal([&] { write_cookie(*tiered.store, slots[n], n); }, EIO);
    write_cookie(*tiered.store, slots[n], n);
    check_cookies(*tiered.store, slots);
  }
}

TEST(tiered_store, without_any_pinned_memory_there_is_no_store_and_the_reason_is_said) {
  const std::string text = refusal([&] { Tiered tiered({}, nullptr, nullptr, 0); }, ENOSPC);
  CHECK(names(text, "cannot lock more than 0 bytes"));
  refusal([&] { Tiered tiered({0, 64 * page_bytes, 1}); }, ENOSPC);
}

TEST(tiered_store, with_less_pinned_memory_than_asked_for_the_rest_is_in_the_file) {
  Tiered tiered({}, nullptr, nullptr, 32 * page_bytes);
  const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
  tiered->settle();
  CHECK(tiered.in_memory() <= 24 * page_bytes);
  check_cookies(*tiered.store, slots);
  CHECK_EQUAL(tiered->notices().size(), 1u);
  const std::string text = refusal([&] { tiered->reserve(10 * piece_bytes); }, ENOSPC);
  CHECK(names(text, "cannot lock more"));
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, a_slot_that_does_not_exist_is_an_error) {
  Tiered tiered;
  Memory page(page_bytes);
  refusal([&] { tiered->read({1 << 30, page_bytes}, 0, page.data(), page_bytes); }, EINVAL);
  refusal([&] { tiered->write({1 << 30, page_bytes}, 0, page.data(), page_bytes); }, EINVAL);
  tiered->release({1 << 30, page_bytes});
  CHECK_EQUAL(tiered->used_bytes(), 0u);
}

namespace {

// Fills both tiers, looks, expects, releases. What cannot be written is released again.
std::vector<Written> use(TieredStore& store, std::size_t piece) {
  std::vector<Written> contents;
  for (std::uint64_t n = 1; n <= 26; ++n) {
    Slot slot;
    try {
      slot = store.reserve((1 + n % 3) * piece);
      write_cookie(store, slot, n);
      contents.push_back({slot, n});
    } catch (const StoreError&) {
      if (slot) store.release(slot);
    }
    if (n % 4 == 0 && !contents.empty()) {
      store.release(contents[contents.size() / 2].slot);
      contents.erase(contents.begin() + static_cast<std::ptrdiff_t>(contents.size() / 2));
    }
    if (contents.empty()) continue;
    const Written& one = contents[n % contents.size()];
    store.soon(one.slot);
    try {
      CHECK(has_cookie(store, one.slot, one.cookie));
    } catch (const StoreError&) {
    }
  }
  return contents;
}

}  // namespace

TEST(tiered_store, nothing_is_lost_whichever_call_of_the_link_or_the_file_fails) {
  for (const bool link : {true, false}) {
    for (const bool for_good : {true, false}) {
      for (std::size_t nth = 1;; ++nth) {
        Faults faults(nth, for_good);
        std::unique_ptr<Tiered> tiered;
        try {
          tiered = std::make_unique<Tiered>(TieredSizes{pinned_bytes, 64 * page_bytes, 1},
                                            link ? &faults : nullptr, link ? nullptr : &faults);
        } catch (const StoreError& error) {
          CHECK_EQUAL(error.code, ENOSPC);  // nothing could be pinned at all
          CHECK(link && nth < 10);
          continue;
        }
        TieredStore& store = *tiered->store;
        const std::vector<Written> contents = use(store, piece_bytes);
        tiered->check_budgets();
        faults.repair();
        std::size_t used = 0;
        for (const Written& content : contents) {
          CHECK(has_cookie(store, content.slot, content.cookie));
          used += content.slot.bytes;
        }
        CHECK_EQUAL(store.used_bytes(), used);
        for (const Written& content : contents) store.soon(content.slot);
        store.settle();
        for (const Written& content : contents) {
          CHECK(has_cookie(store, content.slot, content.cookie));
          store.release(content.slot);
        }
        store.settle();
        CHECK_EQUAL(tiered->in_memory() + tiered->in_file(), 0u);
        if (!faults.reached()) {
          CHECK(nth > 20);
          break;
        }
        tiered.reset();
      }
    }
  }
}
