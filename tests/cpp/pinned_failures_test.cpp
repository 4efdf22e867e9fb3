// The pinned store: what becomes of a system or a link that refuses.
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "core/errors.h"
#include "host/host_link.h"
#include "support/faulty.h"
#include "support/pinned.h"

using namespace swapmem;
using namespace swapmem::test;

TEST(pinned_store, a_limit_on_locked_memory_leaves_a_smaller_arena_and_says_so) {
  CheckedPinned pinned;
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
  CheckedPinned pinned;
  pinned.link->most_pinned_bytes = 0;
  pinned.open(4 * slab_bytes);
  CHECK(names(refusal([&] { pinned->reserve(page_bytes); }, ENOSPC), "cannot lock more"));
  CHECK_EQUAL(pinned->pinned_bytes(), 0u);
}

TEST(pinned_store, memory_the_machine_does_not_have_is_not_touched) {
  CheckedPinned pinned;
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
  CheckedPinned pinned;
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
    CheckedPinned pinned(4);
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
  CheckedPinned pinned(1);
  Memory page(page_bytes);
  refusal([&] { pinned->read({4096, 4096}, 0, page.data(), page_bytes); }, EINVAL);
  pinned->release({4096, 4096});
  CHECK_EQUAL(pinned->used_bytes(), 0u);
}

TEST(pinned_store, nothing_is_lost_whichever_call_of_the_link_fails) {
  for (const bool for_ever : {true, false}) {
    for (std::size_t nth = 1;; ++nth) {
      Faults faults(nth, for_ever);
      CheckedPinned pinned;
      pinned.link->faults = &faults;
      pinned.open(6 * slab_bytes);
      std::vector<Written> contents;
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
          for (const Written& content : contents) {
            CHECK(has_cookie(*pinned.store, content.slot, content.cookie));
          }
        } catch (const StoreError& error) {
          CHECK_EQUAL(error.code, EIO);
        }
      }
      faults.repair();
      std::size_t used = 0;
      for (const Written& content : contents) {
        CHECK(has_cookie(*pinned.store, content.slot, content.cookie));
        used += content.slot.bytes;
      }
      CHECK_EQUAL(pinned->used_bytes(), used);
      pinned->await_growth();  // what began to fail before the repair
      pinned->trim();
      const Slot rest = pinned->reserve(pinned->budget_bytes() - used);
      pinned->release(rest);
      for (const Written& content : contents) pinned->release(content.slot);
      if (!faults.reached()) {
        CHECK(nth > 20);
        break;
      }
    }
  }
}
