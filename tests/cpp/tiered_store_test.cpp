// The tiered store: what moves between pinned memory and the file and when, within which budgets.
#include <algorithm>
#include <cerrno>
#include <random>
#include <string>
#include <vector>

#include "support/task.h"
#include "support/tiered.h"

using namespace swapmem;
using namespace swapmem::test;

// --- what moves, and when

TEST(tiered_store, what_fits_below_the_mark_stays_in_pinned_memory) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark);
  tiered->settle();
  CHECK_EQUAL(tiered.in_memory(), pieces_below_mark * piece_bytes);
  CHECK_EQUAL(tiered.in_file(), 0u);
  CHECK_EQUAL(tiered.trouble->writes.load(), 0);
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, above_the_mark_the_oldest_move_down) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark);
  write_cookie(*tiered.store, slots[0], 0);  // the youngest now
  std::vector<Slot> more;
  for (std::size_t n = 0; n < 3; ++n) {
    more.push_back(tiered->reserve(piece_bytes));
    write_cookie(*tiered.store, more.back(), 100 + n);
    tiered->settle();
  }
  CHECK_EQUAL(tiered.in_memory(), pieces_below_mark * piece_bytes);
  CHECK_EQUAL(tiered.in_file(), 3 * piece_bytes);
  const int reads = tiered.trouble->reads;
  CHECK(has_cookie(*tiered.store, slots[0], 0));
  check_cookies(*tiered.store, slots, 4);
  CHECK_EQUAL(tiered.trouble->reads.load(), reads);
  for (const std::size_t n : {1, 2, 3}) CHECK(has_cookie(*tiered.store, slots[n], n));
  CHECK_EQUAL(tiered.trouble->reads.load(), reads + 3);
}

TEST(tiered_store, pinned_memory_is_free_only_after_the_file_has_the_bytes) {
  Tiered tiered;
  tiered.file->writes.close();
  const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark + 1);
  tiered.file->writes.await_waiting(1);
  CHECK_EQUAL(tiered.in_memory(), (pieces_below_mark + 1) * piece_bytes);
  check_cookies(*tiered.store, slots);
  CHECK_EQUAL(tiered.trouble->reads.load(), 0);
  tiered.file->writes.open();
  tiered->settle();
  CHECK_EQUAL(tiered.in_memory(), pieces_below_mark * piece_bytes);
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, what_moves_at_once_is_bounded) {
  Tiered tiered({256 * page_bytes, 256 * page_bytes, 3});
  tiered.file->writes.close();
  const std::vector<Slot> slots = write_pieces(*tiered.store, 56);
  tiered.file->writes.await_waiting(3);
  CHECK(stays([&] { return tiered.in_file() == 3 * piece_bytes; }));
  tiered.file->writes.let_pass(1);
  tiered.file->writes.await_waiting(3);
  CHECK(tiered.in_file() <= 4 * piece_bytes);
  tiered.file->writes.open();
  tiered->settle();
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, reserve_waits_for_memory_that_is_being_vacated) {
  Tiered tiered;
  tiered.file->writes.close();
  std::vector<Slot> slots = write_pieces(*tiered.store, pinned_pieces);
  Task reserving([&] {
    slots.push_back(tiered->reserve(piece_bytes));
    write_cookie(*tiered.store, slots.back(), pinned_pieces);
  });
  tiered.file->writes.await_waiting(2);
  CHECK(!reserving.done());
  tiered.file->writes.open();
  reserving.join();
  tiered->settle();
  const int reads = tiered.trouble->reads;
  CHECK(has_cookie(*tiered.store, slots.back(), pinned_pieces));
  CHECK_EQUAL(tiered.trouble->reads.load(), reads);  // the newest is in pinned memory
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, what_is_not_written_yet_does_not_move) {
  Tiered tiered;
  std::vector<Slot> slots;
  for (std::size_t n = 0; n < pinned_pieces; ++n) slots.push_back(tiered->reserve(piece_bytes));
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->writes.load(), 0);
  slots.push_back(tiered->reserve(piece_bytes));  // nothing can make room: in the file at once
  CHECK_EQUAL(tiered.in_file(), piece_bytes);
  for (std::size_t n = 0; n < slots.size(); ++n) write_cookie(*tiered.store, slots[n], n);
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, what_is_needed_soon_is_in_pinned_memory_when_it_is_read) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
  tiered->settle();
  for (std::size_t n = 15; n < 20; ++n) tiered->release(slots[n]);
  const int writes = tiered.trouble->writes;
  for (const std::size_t n : {2, 0, 1}) tiered->soon(slots[n]);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->reads.load(), 3);
  CHECK_EQUAL(tiered.in_file(), (20 - pieces_below_mark - 3) * piece_bytes);
  for (std::size_t n = 0; n < 3; ++n) CHECK(has_cookie(*tiered.store, slots[n], n));
  CHECK_EQUAL(tiered.trouble->reads.load(), 3);
  CHECK_EQUAL(tiered.trouble->writes.load(), writes);
}

TEST(tiered_store, a_hint_moves_nothing_down_and_is_followed_as_room_comes) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, 16);
  tiered->settle();
  const int writes = tiered.trouble->writes;
  for (std::size_t n = 0; n < 4; ++n) tiered->soon(slots[n]);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->reads.load(), 0);
  CHECK_EQUAL(tiered.in_memory(), pieces_below_mark * piece_bytes);
  tiered->release(slots[10]);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->reads.load(), 1);
  CHECK(has_cookie(*tiered.store, slots[0], 0));
  CHECK_EQUAL(tiered.trouble->reads.load(), 1);
  CHECK(has_cookie(*tiered.store, slots[1], 1));  // read before room came: not expected any more
  tiered->release(slots[11]);
  tiered->settle();
  CHECK_EQUAL(tiered.trouble->reads.load(), 3);
  CHECK(has_cookie(*tiered.store, slots[2], 2));
  CHECK_EQUAL(tiered.trouble->reads.load(), 3);
  CHECK_EQUAL(tiered.trouble->writes.load(), writes);
  tiered->soon({12345 * page_bytes, page_bytes});  // of nothing: nothing
}

// --- budgets

TEST(tiered_store, both_tiers_are_filled_to_the_last_page) {
  Tiered tiered;
  std::mt19937_64 random(check::seed());
  std::size_t left = tiered->budget_bytes();
  CHECK_EQUAL(left, (pinned_pieces * 4 + 64) * page_bytes);
  std::vector<Slot> slots;
  while (left > 0) {
    const std::size_t bytes = std::min(left, (1 + random() % 13) * page_bytes);
    slots.push_back(tiered->reserve(bytes));
    write_cookie(*tiered.store, slots.back(), slots.size() - 1);
    left -= bytes;
    tiered.check_budgets();
  }
  check_cookies(*tiered.store, slots);
  CHECK_EQUAL(tiered.in_memory(), tiered->pinned_tier().budget_bytes);
  CHECK_EQUAL(tiered.in_file(), tiered->file_tier().budget_bytes);
}

TEST(tiered_store, a_slot_may_be_as_large_as_both_tiers_together) {
  Tiered tiered;
  for (int round = 0; round < 3; ++round) {
    const Slot all = tiered->reserve(tiered->budget_bytes());
    write_cookie(*tiered.store, all, 1);
    CHECK(has_cookie(*tiered.store, all, 1));
    tiered->release(all);
    tiered->settle();
    CHECK_EQUAL(tiered.in_memory() + tiered.in_file(), 0u);
  }
}

TEST(tiered_store, when_both_tiers_are_full_the_numbers_of_both_are_said) {
  Tiered tiered;
  const Slot most = tiered->reserve(tiered->budget_bytes() - page_bytes);
  write_cookie(*tiered.store, most, 3);
  tiered->settle();
  const std::string text = refusal([&] { tiered->reserve(3 * page_bytes); }, ENOSPC);
  for (const std::size_t number :
       {3 * page_bytes, tiered->pinned_tier().budget_bytes, tiered->file_tier().budget_bytes,
        tiered.in_memory(), tiered.in_file()}) {
    CHECK(names(text, std::to_string(number)));
  }
  CHECK_EQUAL(tiered->used_bytes(), tiered->budget_bytes() - page_bytes);
  tiered->release(tiered->reserve(page_bytes));
  CHECK(has_cookie(*tiered.store, most, 3));
}

TEST(tiered_store, a_full_store_waits_for_bytes_that_are_on_their_way_out) {
  Tiered tiered;
  std::vector<Slot> slots = write_pieces(*tiered.store, 30);
  CHECK_EQUAL(tiered->used_bytes(), tiered->budget_bytes());
  tiered->settle();
  tiered.link->copies_in.close();
  Task reading([&] {
    try {
      has_cookie(*tiered.store, slots[29], 29);
    } catch (const StoreError&) {
    }
  });
  tiered.link->copies_in.await_waiting(1);
  tiered->release(slots[29]);  // its memory is still read
  Task reserving([&] { slots[29] = tiered->reserve(piece_bytes); });
  CHECK(stays([&] { return !reserving.done(); }));
  tiered.link->copies_in.open();
  reading.join();
  reserving.join();
  write_cookie(*tiered.store, slots[29], 29);
  check_cookies(*tiered.store, slots);
}
