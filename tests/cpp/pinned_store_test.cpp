// The pinned store: what is pinned when and by whom, how slots are packed, when memory is used
// again.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/pinned.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

// --- pinning

TEST(pinned_store, memory_is_pinned_in_the_background_from_the_start) {
  CheckedPinned pinned(8);
  pinned->await_growth();
  CHECK_EQUAL(pinned->pinned_bytes(), 8 * slab_bytes);
  CHECK_EQUAL(pinned.link->pinned_bytes(), 8 * slab_bytes);
  CHECK(pinned->notices().empty());
}

TEST(pinned_store, reserve_never_pins_and_waits_for_the_next_slab_only) {
  CheckedPinned pinned;
  pinned.link->pins.close();
  pinned.open(8 * slab_bytes);
  Slot slot;
  Task first([&] { slot = pinned->reserve(slab_bytes / 2); });
  pinned.link->pins.await_waiting(2);
  CHECK(!first.done());
  pinned.link->pins.let_pass(1);
  first.join();
  CHECK_EQUAL(pinned->pinned_bytes(), slab_bytes);
  pinned->release(pinned->reserve(slab_bytes / 2));  // what is ready is enough: no wait
  pinned.link->pins.open();
  pinned->reserve(7 * slab_bytes);
  const auto threads = pinned.link->pinning_threads();
  CHECK(!threads.contains(std::this_thread::get_id()));
}

TEST(pinned_store, several_threads_touch_memory_before_it_is_pinned) {
  CheckedPinned pinned;
  Gate touching;
  std::atomic<std::size_t> touched{0};
  touching.close();
  pinned.link->pins.close();
  pinned.calls.available_bytes = plenty;
  pinned.calls.populate = [&](void* memory, std::size_t bytes) {
    touching.pass();
    touched += bytes;
    std::fill_n(static_cast<char*>(memory), bytes, 1);
    return 0;
  };
  pinned.open(4 * slab_bytes);
  touching.await_waiting(2);  // two at once
  CHECK_EQUAL(pinned.link->pins.waiting(), 0u);
  touching.let_pass(1);
  pinned.link->pins.await_waiting(1);
  CHECK_EQUAL(touched.load(), slab_bytes);
  touching.open();
  pinned.link->pins.open();
  pinned->await_growth();
  CHECK_EQUAL(touched.load(), 4 * slab_bytes);
}

TEST(pinned_store, no_more_is_ever_pinned_than_the_budget) {
  CheckedPinned pinned;
  pinned.open(3 * slab_bytes + 5 * page_bytes + 17);
  pinned->await_growth();
  CHECK_EQUAL(pinned->budget_bytes(), 3 * slab_bytes + 5 * page_bytes);
  const Slot all = pinned->reserve(pinned->budget_bytes());
  CHECK(names(refusal([&] { pinned->reserve(page_bytes); }, ENOSPC),
              std::to_string(pinned->budget_bytes())));
  pinned->release(all);
  for (int round = 0; round < 3; ++round) {
    pinned->trim();
    pinned->release(pinned->reserve(pinned->budget_bytes()));
  }
  CHECK_EQUAL(pinned.link->peak_pinned_bytes(), pinned->budget_bytes());
}

TEST(pinned_store, what_can_never_fit_is_refused_without_waiting) {
  CheckedPinned pinned;
  pinned.link->pins.close();
  pinned.open(4 * slab_bytes);
  refusal([&] { pinned->reserve(4 * slab_bytes + page_bytes); }, ENOSPC);
  pinned.link->pins.open();
  CheckedPinned empty;
  empty.open(0);
  refusal([&] { empty->reserve(page_bytes); }, ENOSPC);
}

TEST(pinned_store, destruction_while_memory_is_being_pinned_leaves_nothing_pinned) {
  for (std::size_t ready = 0; ready < 4; ++ready) {
    CheckedPinned pinned;
    pinned.link->pins.close();
    pinned.open(8 * slab_bytes);
    pinned.link->pins.let_pass(ready);
    pinned.link->pins.await_waiting(1);
    Task closing([&] { pinned.store.reset(); });
    pinned.link->pins.open();
    closing.join();
  }
}

TEST(pinned_store, destruction_gives_all_memory_back) {
  CheckedPinned pinned(4);
  const Slot slot = pinned->reserve(4 * slab_bytes);
  const std::vector<HostExtent> memory = pinned->memory(slot);
  CHECK_EQUAL(committed_pages(memory[0].memory, slab_bytes), slab_bytes / page_bytes);
  pinned.store.reset();
  for (const HostExtent& extent : memory) {
    CHECK_EQUAL(committed_pages(extent.memory, extent.bytes), 0u);
  }
}

// --- packing

TEST(pinned_store, slots_of_odd_sizes_fill_the_budget_to_the_last_page) {
  CheckedPinned pinned(8);
  std::mt19937_64 random(check::seed());
  std::size_t left = pinned->budget_bytes();
  std::vector<Slot> slots;
  while (left > 0) {
    const std::size_t bytes = std::min(left, (1 + random() % 37) * page_bytes);
    slots.push_back(pinned->reserve(bytes));
    write_cookie(*pinned.store, slots.back(), slots.size());
    left -= bytes;
  }
  CHECK_EQUAL(pinned->used_bytes(), pinned->budget_bytes());
  for (std::size_t n = 0; n < slots.size(); ++n) {
    CHECK(has_cookie(*pinned.store, slots[n], n + 1));
  }
}

TEST(pinned_store, whatever_is_free_can_be_reserved_however_scattered) {
  CheckedPinned pinned(4);
  std::vector<Slot> slots;
  for (std::size_t n = 0; n < 64; ++n) {
    slots.push_back(pinned->reserve(page_bytes));
    write_cookie(*pinned.store, slots.back(), n);
  }
  for (std::size_t n = 0; n < 64; n += 2) pinned->release(slots[n]);
  const Slot scattered = pinned->reserve(32 * page_bytes);
  CHECK_EQUAL(pinned->memory(scattered).size(), 32u);
  write_cookie(*pinned.store, scattered, 100);
  CHECK(has_cookie(*pinned.store, scattered, 100));
  Memory page(page_bytes);
  pinned->read(scattered, 31 * page_bytes, page.data(), page_bytes);
  // A read is queued with its last part.
  const Fence copied = pinned.link->copied_in;
  const std::vector<Fence> fences = fences_of_read(*pinned.store, scattered);
  CHECK(fences == std::vector{Fence{1} << fence_stream_shift | (copied + 32)});
  for (std::size_t n = 1; n < 64; n += 2) CHECK(has_cookie(*pinned.store, slots[n], n));
  for (std::size_t n = 1; n < 64; n += 2) pinned->release(slots[n]);
  CHECK(has_cookie(*pinned.store, scattered, 100));
  pinned->release(scattered);
  CHECK_EQUAL(pinned->memory(pinned->reserve(4 * slab_bytes)).size(), 4u);
}

TEST(pinned_store, a_slot_larger_than_a_slab_is_copied_in_pieces_the_link_takes) {
  CheckedPinned pinned(6);
  const Slot before = pinned->reserve(3 * page_bytes);
  const Slot large = pinned->reserve(4 * slab_bytes + 5 * page_bytes);
  write_cookie(*pinned.store, before, 1);
  write_cookie(*pinned.store, large, 2);
  CHECK(has_cookie(*pinned.store, before, 1));
  CHECK(has_cookie(*pinned.store, large, 2));
  Memory part(2 * slab_bytes);
  pinned->read(large, slab_bytes - page_bytes, part.data(), part.bytes());
  pinned->write(large, slab_bytes - page_bytes, part.data(), part.bytes());
  CHECK(has_cookie(*pinned.store, large, 2));
}

TEST(pinned_store, neighbours_that_are_released_become_one_again_in_any_order) {
  std::vector<std::size_t> order{0, 1, 2, 3};
  do {
    CheckedPinned pinned(1);
    std::vector<Slot> slots;
    for (int i = 0; i < 4; ++i) slots.push_back(pinned->reserve(slab_bytes / 4));
    for (const std::size_t i : order) pinned->release(slots[i]);
    CHECK_EQUAL(pinned->memory(pinned->reserve(slab_bytes)).size(), 1u);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(pinned_store, the_smallest_free_piece_that_fits_is_used) {
  CheckedPinned pinned(1);
  const Slot wide = pinned->reserve(3 * page_bytes);
  pinned->reserve(page_bytes);
  const Slot narrow = pinned->reserve(page_bytes);
  pinned->reserve(slab_bytes - 5 * page_bytes);
  pinned->release(wide);
  pinned->release(narrow);
  CHECK_EQUAL(pinned->reserve(page_bytes).offset, narrow.offset);
  CHECK_EQUAL(pinned->reserve(3 * page_bytes).offset, wide.offset);
}

// --- use and reuse

TEST(pinned_store, released_memory_is_not_used_again_before_its_copies_have_ended) {
  for (const bool out : {true, false}) {
    CheckedPinned pinned(1);
    const Slot slot = pinned->reserve(slab_bytes);
    write_cookie(*pinned.store, slot, 1);
    Gate& copies = out ? pinned.link->copies_out : pinned.link->copies_in;
    copies.close();
    Memory device(slab_bytes);
    const auto copy = [&](std::size_t half) {
      const std::size_t bytes = slab_bytes / 2;
      char* memory = static_cast<char*>(device.data()) + half * bytes;
      if (out) {
        pinned->write(slot, half * bytes, memory, bytes);
      } else {
        pinned->read(slot, half * bytes, memory, bytes);
      }
    };
    Task first([&] { copy(0); });
    Task second([&] { copy(1); });
    copies.await_waiting(2);
    pinned->release(slot);
    CHECK_EQUAL(pinned->used_bytes(), slab_bytes);
    refusal([&] { pinned->reserve(page_bytes); }, ENOSPC);
    copies.let_pass(1);
    while (!first.done() && !second.done()) std::this_thread::yield();
    refusal([&] { pinned->reserve(page_bytes); }, ENOSPC);  // the other copy still uses it
    copies.open();
    first.join();
    second.join();
    CHECK_EQUAL(pinned->used_bytes(), 0u);
    const Slot again = pinned->reserve(slab_bytes);
    write_cookie(*pinned.store, again, 2);
    CHECK(has_cookie(*pinned.store, again, 2));
  }
}

TEST(pinned_store, peaks_are_remembered) {
  CheckedPinned pinned(4);
  const Slot a = pinned->reserve(3 * slab_bytes);
  pinned->release(a);
  pinned->release(pinned->reserve(slab_bytes));
  CHECK_EQUAL(pinned->peak_bytes(), 3 * slab_bytes);
  CHECK_EQUAL(pinned->used_bytes(), 0u);
}

TEST(pinned_store, trim_gives_back_what_is_unused_and_it_comes_again_in_the_background) {
  CheckedPinned pinned(4);
  pinned->await_growth();
  std::vector<Slot> slots;
  for (std::size_t n = 0; n < 4; ++n) {
    slots.push_back(pinned->reserve(slab_bytes));
    write_cookie(*pinned.store, slots.back(), n);
  }
  CHECK_EQUAL(pinned->trim(), 0u);
  const std::vector<HostExtent> released = pinned->memory(slots[2]);
  for (const std::size_t n : {1, 2, 3}) pinned->release(slots[n]);
  const Slot page = pinned->reserve(page_bytes);
  write_cookie(*pinned.store, page, 9);
  CHECK_EQUAL(pinned->trim(), 2 * slab_bytes);
  CHECK_EQUAL(pinned->pinned_bytes(), 2 * slab_bytes);
  CHECK_EQUAL(pinned.link->pinned_bytes(), 2 * slab_bytes);
  CHECK(has_cookie(*pinned.store, slots[0], 0));
  CHECK(has_cookie(*pinned.store, page, 9));
  const Slot large = pinned->reserve(3 * slab_bytes - page_bytes);
  write_cookie(*pinned.store, large, 10);
  CHECK(has_cookie(*pinned.store, large, 10));
  CHECK(has_cookie(*pinned.store, page, 9));
  CHECK(!pinned.link->pinning_threads().contains(std::this_thread::get_id()));
  pinned->release(large);
  pinned->release(page);
  pinned->release(slots[0]);
  CHECK_EQUAL(pinned->trim(), 4 * slab_bytes);
  for (const HostExtent& extent : released) {
    CHECK_EQUAL(committed_pages(extent.memory, extent.bytes), 0u);
  }
}

TEST(pinned_store, after_trim_the_next_slab_is_pinned_before_it_is_needed) {
  CheckedPinned pinned(4);
  pinned->await_growth();
  CHECK_EQUAL(pinned->trim(), 4 * slab_bytes);
  pinned->reserve(page_bytes);
  pinned->await_growth();
  CHECK_EQUAL(pinned->pinned_bytes(), 2 * slab_bytes);
}

TEST(pinned_store, no_byte_is_lost_whatever_threads_do) {
  CheckedPinned pinned(16);
  std::atomic<bool> done{false};
  Task trimmer([&] {
    while (!done) {
      pinned->trim();
      CHECK(pinned->used_bytes() <= pinned->budget_bytes());
      CHECK(pinned->pinned_bytes() <= pinned->budget_bytes());
      std::this_thread::yield();
    }
  });
  const std::uint64_t seed = check::seed();
  std::vector<std::unique_ptr<Task>> tasks;
  for (std::uint64_t thread = 0; thread < 4; ++thread) {
    tasks.push_back(std::make_unique<Task>([&, thread] {
      std::mt19937_64 random(seed + thread);
      std::vector<std::pair<Slot, std::uint64_t>> slots;
      for (int step = 0; step < 400; ++step) {
        if (random() % 2 == 0 && !slots.empty()) {
          std::swap(slots[random() % slots.size()], slots.back());
          CHECK(has_cookie(*pinned.store, slots.back().first, slots.back().second));
          if (random() % 2 == 0) continue;
          pinned->release(slots.back().first);
          slots.pop_back();
        } else {
          // Together less than the budget: none is ever refused.
          std::size_t used = 0;
          for (const auto& [slot, cookie] : slots) used += slot.bytes;
          const std::size_t room = 4 * slab_bytes - used;
          if (room == 0) continue;
          const std::size_t bytes = std::min(room, (1 + random() % 24) * page_bytes);
          slots.emplace_back(pinned->reserve(bytes), random());
          write_cookie(*pinned.store, slots.back().first, slots.back().second);
        }
      }
      for (const auto& [slot, cookie] : slots) {
        CHECK(has_cookie(*pinned.store, slot, cookie));
        pinned->release(slot);
      }
    }));
  }
  for (const auto& task : tasks) task->join();
  done = true;
  trimmer.join();
  CHECK_EQUAL(pinned->used_bytes(), 0u);
  CHECK_EQUAL(pinned.link->peak_pinned_bytes() <= pinned->budget_bytes(), true);
  pinned->release(pinned->reserve(pinned->budget_bytes()));
}
