// What store.h promises, for every store.
#include <algorithm>
#include <cerrno>
#include <random>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "support/bytes.h"
#include "support/kinds.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t budget_bytes = std::size_t{8} << 20;

// Memory as the engine passes it: at addresses that are multiples of a page.
class Pages {
 public:
  explicit Pages(std::size_t bytes)
      : bytes_(bytes), memory_(std::aligned_alloc(page_bytes, bytes), std::free) {
    fill(address(), bytes, 0);
  }
  Address address() const { return reinterpret_cast<Address>(memory_.get()); }
  void* data() const { return memory_.get(); }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  std::unique_ptr<void, decltype(&std::free)> memory_;
};

}  // namespace

TEST_EACH(store, bytes_come_back_as_they_were_written, all_stores()) {
  const auto store = kind.make(budget_bytes);
  std::vector<Slot> slots;
  for (std::uint64_t n = 0; n < 8; ++n) {
    const Pages pages((n + 1) * min_block_bytes);
    fill(pages.address(), pages.bytes(), n);
    slots.push_back(store->reserve(pages.bytes()));
    store->write(slots.back(), 0, pages.data(), pages.bytes());
  }
  for (std::uint64_t n = 8; n-- > 0;) {
    const Pages pages((n + 1) * min_block_bytes);
    store->read(slots[n], 0, pages.data(), pages.bytes());
    CHECK(holds(pages.address(), pages.bytes(), n));
    store->release(slots[n]);
  }
}

TEST_EACH(store, parts_are_written_and_read_on_their_own, all_stores()) {
  const auto store = kind.make(budget_bytes);
  const Slot slot = store->reserve(4 * min_block_bytes);
  const Pages part(min_block_bytes);
  for (const std::size_t n : {2, 0, 3, 1}) {
    fill(part.address(), part.bytes(), n);
    store->write(slot, n * min_block_bytes, part.data(), part.bytes());
  }
  for (std::size_t n = 0; n < 4; ++n) {
    store->read(slot, n * min_block_bytes, part.data(), part.bytes());
    CHECK(holds(part.address(), part.bytes(), n));
  }
}

TEST_EACH(store, a_part_can_be_read_in_other_pieces_than_it_was_written, all_stores()) {
  const auto store = kind.make(budget_bytes);
  const Slot slot = store->reserve(2 * min_block_bytes);
  const Pages pages(slot.bytes);
  fill(pages.address(), slot.bytes, 11);
  store->write(slot, 0, pages.data(), slot.bytes);
  const Pages piece(page_bytes);
  store->read(slot, 3 * page_bytes, piece.data(), page_bytes);
  CHECK(std::equal(static_cast<const char*>(piece.data()),
                   static_cast<const char*>(piece.data()) + page_bytes,
                   static_cast<const char*>(pages.data()) + 3 * page_bytes));
}

TEST_EACH(store, a_slot_is_as_large_as_asked_for_and_aligned, all_stores()) {
  const auto store = kind.make(budget_bytes);
  for (std::size_t pages = 1; pages < 40; ++pages) {
    const Slot slot = store->reserve(pages * page_bytes);
    CHECK(static_cast<bool>(slot));
    CHECK_EQUAL(slot.bytes, pages * page_bytes);
    CHECK_EQUAL(slot.offset % page_bytes, 0u);
  }
}

TEST_EACH(store, what_is_used_is_counted, all_stores()) {
  const auto store = kind.make(budget_bytes);
  CHECK_EQUAL(store->budget_bytes(), budget_bytes);
  CHECK_EQUAL(store->used_bytes(), 0u);
  const Slot a = store->reserve(3 * page_bytes);
  const Slot b = store->reserve(5 * page_bytes);
  CHECK_EQUAL(store->used_bytes(), 8 * page_bytes);
  store->release(a);
  CHECK_EQUAL(store->used_bytes(), 5 * page_bytes);
  store->release(b);
  CHECK_EQUAL(store->used_bytes(), 0u);
  CHECK_EQUAL(store->peak_bytes(), 8 * page_bytes);
}

TEST_EACH(store, a_full_store_says_so_and_takes_what_fits_again, all_stores()) {
  const auto store = kind.make(budget_bytes);
  const Slot most = store->reserve(budget_bytes - page_bytes);
  try {
    store->reserve(2 * page_bytes);
    CHECK(false);
  } catch (const StoreError& error) {
    CHECK_EQUAL(error.code, ENOSPC);
  }
  CHECK_EQUAL(store->used_bytes(), budget_bytes - page_bytes);
  const Slot last = store->reserve(page_bytes);
  store->release(most);
  store->release(store->reserve(budget_bytes - page_bytes));
  store->release(last);
  store->release(store->reserve(budget_bytes));  // in one piece again
}

TEST_EACH(store, slots_never_overlap_whatever_the_order, all_stores()) {
  std::mt19937_64 random(check::seed());
  const auto store = kind.make(budget_bytes);
  std::vector<Slot> slots;
  for (int step = 0; step < 2000; ++step) {
    const std::size_t bytes = (1 + random() % 64) * page_bytes;
    if (random() % 2 == 0 && !slots.empty()) {
      std::swap(slots[random() % slots.size()], slots.back());
      store->release(slots.back());
      slots.pop_back();
    } else {
      try {
        slots.push_back(store->reserve(bytes));
      } catch (const StoreError&) {
        continue;
      }
    }
    std::size_t used = 0;
    for (const Slot& slot : slots) used += slot.bytes;
    CHECK_EQUAL(store->used_bytes(), used);
    CHECK(used <= budget_bytes);
  }
  std::sort(slots.begin(), slots.end(),
            [](const Slot& a, const Slot& b) { return a.offset < b.offset; });
  for (std::size_t i = 1; i < slots.size(); ++i) {
    CHECK(slots[i - 1].offset + slots[i - 1].bytes <= slots[i].offset);
  }
  for (const Slot& slot : slots) store->release(slot);
  store->release(store->reserve(budget_bytes));
}

TEST_EACH(store, several_threads_use_parts_of_one_slot_at_once, all_stores()) {
  const auto store = kind.make(budget_bytes);
  const Slot slot = store->reserve(8 * min_block_bytes);
  std::vector<std::unique_ptr<Task>> tasks;
  for (std::size_t n = 0; n < 8; ++n) {
    tasks.push_back(std::make_unique<Task>([&store, slot, n] {
      const Pages pages(min_block_bytes);
      for (std::uint64_t round = 0; round < 8; ++round) {
        fill(pages.address(), pages.bytes(), 10 * n + round);
        store->write(slot, n * min_block_bytes, pages.data(), pages.bytes());
        fill(pages.address(), pages.bytes(), 0);
        store->read(slot, n * min_block_bytes, pages.data(), pages.bytes());
        CHECK(holds(pages.address(), pages.bytes(), 10 * n + round));
        store->release(store->reserve((n + 1) * page_bytes));
      }
    }));
  }
  for (const auto& task : tasks) task->join();
  CHECK_EQUAL(store->used_bytes(), slot.bytes);
}
