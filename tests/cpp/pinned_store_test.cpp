// The pinned store: what is pinned when and by whom, how slots are packed, when memory is used
// again, and what becomes of a system or a link that refuses.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/host_link.h"
#include "host/pinned_store.h"
#include "support/bytes.h"
#include "support/checked_link.h"
#include "support/gate.h"
#include "support/slots.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t slab_bytes = 16 * page_bytes;

std::size_t plenty() {
  return std::size_t{1} << 40;
}

// A store over a checked link. Whatever a test does, the link has nothing to complain about in the
// end, and nothing stays pinned.
struct Pinned {
  std::shared_ptr<CheckedLink> link = std::make_shared<CheckedLink>();
  ArenaCalls calls = ArenaCalls::system();
  std::unique_ptr<PinnedStore> store;

  Pinned() = default;
  explicit Pinned(std::size_t slabs) { open(slabs * slab_bytes); }
  void open(std::size_t budget_bytes) {
    store = std::make_unique<PinnedStore>(link, budget_bytes, slab_bytes, calls);
  }
  ~Pinned() noexcept(false) {
    if (std::uncaught_exceptions() > 0) Gate::open_all();  // or threads would wait for ever
    store.reset();
    if (std::uncaught_exceptions() > 0) return;
    CHECK_EQUAL(link->complaint(), "");
    CHECK_EQUAL(link->pinned_bytes(), 0u);
  }
  PinnedStore* operator->() const { return store.get(); }
};

// Device memory, as far as the checked link is concerned.
std::string refusal(const std::function<void()>& call, int code) {
  try {
    call();
  } catch (const StoreError& error) {
    CHECK_EQUAL(error.code, code);
    return error.what();
  }
  CHECK(false);
}

bool names(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Pages that are there, of a range.
std::size_t committed_pages(const void* memory, std::size_t bytes) {
  std::vector<unsigned char> pages(bytes / page_bytes);
  if (mincore(const_cast<void*>(memory), bytes, pages.data()) != 0) return 0;
  return static_cast<std::size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

}  // namespace

// --- pinning

TEST(pinned_store, memory_is_pinned_in_the_background_from_the_start) {
  Pinned pinned(8);
  pinned->await_growth();
  CHECK_EQUAL(pinned->pinned_bytes(), 8 * slab_bytes);
  CHECK_EQUAL(pinned.link->pinned_bytes(), 8 * slab_bytes);
  CHECK(pinned->notices().empty());
}

TEST(pinned_store, reserve_never_pins_and_waits_for_the_next_slab_only) {
  Pinned pinned;
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
  Pinned pinned;
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
  Pinned pinned;
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
  Pinned pinned;
  pinned.link->pins.close();
  pinned.open(4 * slab_bytes);
  refusal([&] { pinned->reserve(4 * slab_bytes + page_bytes); }, ENOSPC);
  pinned.link->pins.open();
  Pinned empty;
  empty.open(0);
  refusal([&] { empty->reserve(page_bytes); }, ENOSPC);
}

TEST(pinned_store, destruction_while_memory_is_being_pinned_leaves_nothing_pinned) {
  for (std::size_t ready = 0; ready < 4; ++ready) {
    Pinned pinned;
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
  Pinned pinned(4);
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
  Pinned pinned(8);
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
  Pinned pinned(4);
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
  Pinned pinned(6);
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
    Pinned pinned(1);
    std::vector<Slot> slots;
    for (int i = 0; i < 4; ++i) slots.push_back(pinned->reserve(slab_bytes / 4));
    for (const std::size_t i : order) pinned->release(slots[i]);
    CHECK_EQUAL(pinned->memory(pinned->reserve(slab_bytes)).size(), 1u);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(pinned_store, the_smallest_free_piece_that_fits_is_used) {
  Pinned pinned(1);
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
    Pinned pinned(1);
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
  Pinned pinned(4);
  const Slot a = pinned->reserve(3 * slab_bytes);
  pinned->release(a);
  pinned->release(pinned->reserve(slab_bytes));
  CHECK_EQUAL(pinned->peak_bytes(), 3 * slab_bytes);
  CHECK_EQUAL(pinned->used_bytes(), 0u);
}

TEST(pinned_store, trim_gives_back_what_is_unused_and_it_comes_again_in_the_background) {
  Pinned pinned(4);
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
  Pinned pinned(4);
  pinned->await_growth();
  CHECK_EQUAL(pinned->trim(), 4 * slab_bytes);
  pinned->reserve(page_bytes);
  pinned->await_growth();
  CHECK_EQUAL(pinned->pinned_bytes(), 2 * slab_bytes);
}

// --- what refuses

TEST(pinned_store, a_limit_on_locked_memory_leaves_a_smaller_arena_and_says_so) {
  Pinned pinned;
  pinned.link->most_pinned_bytes = 5 * slab_bytes / 2;
  pinned.open(8 * slab_bytes);
  pinned->await_growth();
  CHECK_EQUAL(pinned->pinned_bytes(), 2 * slab_bytes);
  CHECK_EQUAL(pinned->capacity_bytes(), 2 * slab_bytes);
  CHECK_EQUAL(pinned->notices().size(), 1u);
  for (const std::size_t number : {2 * slab_bytes, 8 * slab_bytes, 5 * slab_bytes / 2}) {
    CHECK(names(pinned->notices()[0], std::to_string(number)));
  }
  const Slot slot = pinned->reserve(2 * slab_bytes);
  write_cookie(*pinned.store, slot, 1);
  const std::string text = refusal([&] { pinned->reserve(3 * page_bytes); }, ENOSPC);
  for (const std::size_t number : {3 * page_bytes, 2 * slab_bytes, 8 * slab_bytes}) {
    CHECK(names(text, std::to_string(number)));
  }
  CHECK(names(text, "cannot lock more"));
  CHECK(has_cookie(*pinned.store, slot, 1));
  pinned.link->most_pinned_bytes = 8 * slab_bytes;
  pinned->trim();  // asks again
  const Slot more = pinned->reserve(6 * slab_bytes);
  write_cookie(*pinned.store, more, 2);
  CHECK(has_cookie(*pinned.store, slot, 1));
  CHECK(pinned->notices().empty());
}

TEST(pinned_store, nothing_pinned_at_all_is_an_error_with_the_reason) {
  Pinned pinned;
  pinned.link->most_pinned_bytes = 0;
  pinned.open(4 * slab_bytes);
  CHECK(names(refusal([&] { pinned->reserve(page_bytes); }, ENOSPC), "cannot lock more"));
  CHECK_EQUAL(pinned->pinned_bytes(), 0u);
}

TEST(pinned_store, memory_the_machine_does_not_have_is_not_touched) {
  Pinned pinned;
  std::atomic<std::size_t> touched{0};
  const std::size_t spared = std::size_t{128} << 20;
  pinned.calls.available_bytes = [&] { return spared + 5 * slab_bytes - touched; };
  pinned.calls.populate = [&](void*, std::size_t bytes) {
    touched += bytes;
    return 0;
  };
  pinned.open(64 * slab_bytes);
  pinned->await_growth();
  CHECK(touched <= 5 * slab_bytes);
  CHECK_EQUAL(pinned->pinned_bytes(), touched.load());
  CHECK(names(pinned->notices().at(0), "bytes of memory are available"));
}

TEST(pinned_store, memory_the_system_refuses_leaves_a_smaller_arena) {
  Pinned pinned;
  std::atomic<int> calls{0};
  pinned.calls.populate = [&](void*, std::size_t) { return ++calls > 2 ? ENOMEM : 0; };
  pinned.open(8 * slab_bytes);
  pinned->await_growth();
  CHECK_EQUAL(pinned->pinned_bytes(), 2 * slab_bytes);
  CHECK(names(pinned->notices().at(0), "Cannot allocate memory"));
  pinned->reserve(2 * slab_bytes);
}

TEST(pinned_store, a_link_that_runs_out_of_memory_leaves_no_arena_and_says_so) {
  struct : HostLink {
    void pin(void*, std::size_t) override { throw std::bad_alloc(); }
  } link;
  PinnedStore store({std::shared_ptr<Link>(), &link}, 4 * slab_bytes, slab_bytes);
  store.await_growth();
  CHECK_EQUAL(store.pinned_bytes(), 0u);
  CHECK(names(store.notices().at(0), "out of memory"));
}

// What the system says of addresses within a page it says of all before Linux 5.14.
TEST(pinned_store, memory_comes_also_where_the_system_cannot_be_asked_for_it_at_once) {
  const std::size_t bytes = 8 * page_bytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  const int code = ArenaCalls::system().populate(static_cast<char*>(memory) + 1, bytes - 1);
  const std::size_t committed = committed_pages(memory, bytes);
  munmap(memory, bytes);
  CHECK_EQUAL(code, 0);
  CHECK_EQUAL(committed, bytes / page_bytes);
}

TEST(pinned_store, a_budget_beyond_all_addresses_is_an_error_with_its_size) {
  const std::size_t budget_bytes = std::size_t{1} << 60;
  const std::string text =
      refusal([&] { PinnedStore store(std::make_shared<HostLink>(), budget_bytes); }, ENOMEM);
  CHECK(names(text, std::to_string(budget_bytes)));
}

TEST(pinned_store, a_copy_the_link_refuses_is_an_error_and_leaves_the_other_slots) {
  for (const bool out : {true, false}) {
    Pinned pinned(4);
    pinned->await_growth();
    const Slot a = pinned->reserve(slab_bytes);
    const Slot b = pinned->reserve(slab_bytes);
    write_cookie(*pinned.store, a, 1);
    write_cookie(*pinned.store, b, 2);
    Faults faults(1, false);
    pinned.link->faults = &faults;
    Memory memory(slab_bytes);
    const std::string text = refusal(
        [&] {
          if (out) {
            pinned->write(a, 0, memory.data(), slab_bytes);
          } else {
            pinned->read(a, 0, memory.data(), slab_bytes);
          }
        },
        EIO);
    CHECK(names(text, "injected fault"));
    CHECK(has_cookie(*pinned.store, b, 2));
    if (!out) CHECK(has_cookie(*pinned.store, a, 1));
    write_cookie(*pinned.store, a, 3);
    CHECK(has_cookie(*pinned.store, a, 3));
    pinned->release(a);
    pinned->release(b);
    CHECK_EQUAL(pinned->used_bytes(), 0u);
  }
}

TEST(pinned_store, a_slot_that_does_not_exist_is_an_error) {
  Pinned pinned(1);
  Memory page(page_bytes);
  refusal([&] { pinned->read({4096, 4096}, 0, page.data(), page_bytes); }, EINVAL);
  pinned->release({4096, 4096});
  CHECK_EQUAL(pinned->used_bytes(), 0u);
}

TEST(pinned_store, nothing_is_lost_whichever_call_of_the_link_fails) {
  for (const bool for_ever : {true, false}) {
    for (std::size_t nth = 1;; ++nth) {
      Faults faults(nth, for_ever);
      Pinned pinned;
      pinned.link->faults = &faults;
      pinned.open(6 * slab_bytes);
      struct Content {
        Slot slot;
        std::uint64_t cookie;
      };
      std::vector<Content> contents;
      for (std::size_t n = 1; n <= 9; ++n) {
        Slot slot;
        try {
          slot = pinned->reserve((1 + 5 * (n % 5)) * page_bytes);
          write_cookie(*pinned.store, slot, n);
          contents.push_back({slot, n});
        } catch (const StoreError&) {
          if (slot) pinned->release(slot);
        }
        if (n % 3 == 0 && !contents.empty()) {
          pinned->release(contents.front().slot);
          contents.erase(contents.begin());
        }
        if (n == 5) pinned->trim();
        try {
          for (const Content& content : contents) {
            CHECK(has_cookie(*pinned.store, content.slot, content.cookie));
          }
        } catch (const StoreError& error) {
          CHECK_EQUAL(error.code, EIO);
        }
      }
      faults.repair();
      std::size_t used = 0;
      for (const Content& content : contents) {
        CHECK(has_cookie(*pinned.store, content.slot, content.cookie));
        used += content.slot.bytes;
      }
      CHECK_EQUAL(pinned->used_bytes(), used);
      pinned->await_growth();  // what began to fail before the repair
      pinned->trim();
      const Slot rest = pinned->reserve(pinned->budget_bytes() - used);
      pinned->release(rest);
      for (const Content& content : contents) pinned->release(content.slot);
      if (!faults.reached()) {
        CHECK(nth > 20);
        break;
      }
    }
  }
}

TEST(pinned_store, no_byte_is_lost_whatever_threads_do) {
  Pinned pinned(16);
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
