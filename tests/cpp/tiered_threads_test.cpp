// The tiered store: what is looked at, written or released while it moves.
#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "support/bytes.h"
#include "support/task.h"
#include "support/tiered.h"

using namespace swapmem;
using namespace swapmem::test;

TEST(tiered_store, memory_that_is_still_read_is_not_used_again_after_its_move) {
  Tiered tiered;
  std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark);
  tiered.link->copies_in.close();
  bool intact = false;
  Task reading([&] { intact = has_cookie(*tiered.store, slots[0], 0); });
  tiered.link->copies_in.await_waiting(1);
  const std::size_t pieces = pinned_pieces + 6;
  for (std::size_t n = pieces_below_mark; n < pieces; ++n) {
    slots.push_back(tiered->reserve(piece_bytes));
    write_cookie(*tiered.store, slots.back(), n);
  }
  tiered->settle();
  // The bytes are in the file and, as long as they are read there, in pinned memory too.
  CHECK_EQUAL(tiered.in_memory() + tiered.in_file(), (pieces + 1) * piece_bytes);
  tiered.link->copies_in.open();
  reading.join();
  CHECK(intact);
  tiered->settle();
  CHECK_EQUAL(tiered.in_memory() + tiered.in_file(), pieces * piece_bytes);
  check_cookies(*tiered.store, slots);
}

TEST(tiered_store, one_slot_is_read_in_chunks_while_its_pieces_move_down_and_up) {
  Tiered tiered;
  const Slot slot = tiered->reserve(pieces_below_mark * piece_bytes);
  write_cookie(*tiered.store, slot, 7);
  std::atomic<bool> done{false};
  Memory whole(slot.bytes);
  fill(whole.address(), slot.bytes, 7);
  std::vector<std::unique_ptr<Task>> readers;
  for (std::size_t thread = 0; thread < 3; ++thread) {
    readers.push_back(std::make_unique<Task>([&, thread] {
      std::mt19937_64 random(thread);
      Memory chunk(5 * page_bytes);
      while (!done) {
        const std::size_t at = random() % (slot.bytes / page_bytes - 5) * page_bytes;
        tiered->read(slot, at, chunk.data(), 5 * page_bytes);
        CHECK(std::equal(static_cast<char*>(chunk.data()),
                         static_cast<char*>(chunk.data()) + 5 * page_bytes,
                         static_cast<char*>(whole.data()) + at));
      }
    }));
  }
  for (int round = 0; round < 20; ++round) {
    const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark);
    for (const Slot& other : slots) tiered->release(other);
    tiered->soon(slot);
  }
  done = true;
  for (const auto& reader : readers) reader->join();
  CHECK(tiered.trouble->writes > 0);
  CHECK(has_cookie(*tiered.store, slot, 7));
}

TEST(tiered_store, a_slot_may_be_released_while_it_moves_down) {
  Tiered tiered;
  tiered.file->writes.close();
  const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark + 1);
  tiered.file->writes.await_waiting(1);
  tiered->release(slots[0]);
  CHECK_EQUAL(tiered->used_bytes(), pieces_below_mark * piece_bytes);
  CHECK_EQUAL(tiered.in_memory(), (pieces_below_mark + 1) * piece_bytes);  // still read
  tiered.file->writes.open();
  tiered->settle();
  CHECK_EQUAL(tiered.in_memory(), pieces_below_mark * piece_bytes);
  CHECK_EQUAL(tiered.in_file(), 0u);
  check_cookies(*tiered.store, slots, 1);
}

TEST(tiered_store, a_slot_may_be_released_while_it_moves_up) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark + 2);
  tiered->settle();
  tiered.file->reads.close();
  tiered->release(slots.back());
  tiered->soon(slots[0]);
  tiered.file->reads.await_waiting(1);
  tiered->release(slots[0]);
  tiered.file->reads.open();
  tiered->settle();
  CHECK_EQUAL(tiered->used_bytes(), pieces_below_mark * piece_bytes);
  CHECK_EQUAL(tiered.in_memory(), (pieces_below_mark - 1) * piece_bytes);
  CHECK_EQUAL(tiered.in_file(), piece_bytes);
  CHECK(has_cookie(*tiered.store, slots[1], 1));
}

TEST(tiered_store, a_slot_may_be_released_while_it_is_written) {
  Tiered tiered;
  const Slot slot = tiered->reserve(piece_bytes);
  tiered.link->copies_out.close();
  Task writing([&] { write_cookie(*tiered.store, slot, 1); });
  tiered.link->copies_out.await_waiting(1);
  tiered->release(slot);
  CHECK_EQUAL(tiered->used_bytes(), 0u);
  CHECK_EQUAL(tiered.in_memory(), piece_bytes);  // still written
  tiered.link->copies_out.open();
  writing.join();
  CHECK_EQUAL(tiered.in_memory(), 0u);
}

TEST(tiered_store, a_write_to_what_moves_is_not_lost) {
  for (const bool down : {true, false}) {
    Tiered tiered;
    const std::vector<Slot> slots = write_pieces(*tiered.store, pieces_below_mark);
    Gate& gate = down ? tiered.trouble->written : tiered.trouble->been_read;
    if (down) gate.close();
    const Slot more = tiered->reserve(piece_bytes);  // from here on the first moves down
    write_cookie(*tiered.store, more, 50);
    if (!down) {
      tiered->settle();
      tiered->release(slots[5]);
      gate.close();
      tiered->soon(slots[0]);
    }
    gate.await_waiting(1);
    Task writing([&] { write_cookie(*tiered.store, slots[0], 60); });
    CHECK(has_cookie(*tiered.store, slots[7], 7));
    gate.open();
    writing.join();
    tiered->settle();
    CHECK(has_cookie(*tiered.store, slots[0], 60));
    CHECK(has_cookie(*tiered.store, more, 50));
  }
}

TEST(tiered_store, more_readers_of_the_file_than_buffers_take_turns) {
  Tiered tiered;
  const std::vector<Slot> slots = write_pieces(*tiered.store, 20);
  tiered->settle();
  tiered.file->reads.close();
  std::vector<std::unique_ptr<Task>> readers;
  for (std::size_t n = 0; n < 8; ++n) {
    readers.push_back(
        std::make_unique<Task>([&, n] { CHECK(has_cookie(*tiered.store, slots[n], n)); }));
  }
  tiered.file->reads.await_waiting(buffers);
  CHECK(has_cookie(*tiered.store, slots[19], 19));  // what is in pinned memory needs none
  tiered.file->reads.open();
  for (const auto& reader : readers) reader->join();
}

TEST(tiered_store, destruction_finishes_the_moves_under_way) {
  Tiered tiered;
  tiered.file->writes.close();
  tiered.file->reads.close();
  write_pieces(*tiered.store, pinned_pieces);
  tiered.file->writes.await_waiting(1);
  Gate& writes = tiered.file->writes;
  Task closing([&] { tiered.store.reset(); });
  writes.open();
  closing.join();
}

TEST(tiered_store, no_byte_is_lost_whatever_threads_do) {
  Tiered tiered({32 * page_bytes, 128 * page_bytes, 3});  // one thread alone overflows it
  const std::size_t share = tiered->budget_bytes() / 4 / page_bytes * page_bytes;
  std::atomic<bool> done{false};
  Task watcher([&] {
    while (!done) {
      tiered.check_budgets();
      std::this_thread::yield();
    }
  });
  const std::uint64_t seed = check::seed();
  std::vector<std::unique_ptr<Task>> tasks;
  for (std::uint64_t thread = 0; thread < 4; ++thread) {
    tasks.push_back(std::make_unique<Task>([&, thread] {
      std::mt19937_64 random(seed + thread);
      std::vector<Written> contents;
      std::size_t used = 0;
      for (int step = 0; step < 500; ++step) {
        const std::size_t pages = std::min((share - used) / page_bytes, 1 + random() % 14);
        if (random() % 3 == 0 && pages > 0) {  // within its share none is ever refused
          contents.push_back({tiered->reserve(pages * page_bytes), random()});
          used += contents.back().slot.bytes;
          write_cookie(*tiered.store, contents.back().slot, contents.back().cookie);
          continue;
        }
        if (contents.empty()) continue;
        std::swap(contents[random() % contents.size()], contents.back());
        Written& one = contents.back();
        switch (random() % 6) {
          case 0:
            one.cookie = random();
            write_cookie(*tiered.store, one.slot, one.cookie);
            break;
          case 1:
          case 2:
            tiered->soon(one.slot);
            break;
          case 3:
            used -= one.slot.bytes;
            tiered->release(one.slot);
            contents.pop_back();
            break;
          default:
            CHECK(has_cookie(*tiered.store, one.slot, one.cookie));
        }
      }
      for (const Written& content : contents) {
        CHECK(has_cookie(*tiered.store, content.slot, content.cookie));
        tiered->release(content.slot);
      }
    }));
  }
  for (const auto& task : tasks) task->join();
  done = true;
  watcher.join();
  tiered->settle();
  CHECK_EQUAL(tiered.in_memory() + tiered.in_file(), 0u);
  CHECK_EQUAL(tiered->used_bytes(), 0u);
  CHECK(tiered.trouble->reads > 0);
}
