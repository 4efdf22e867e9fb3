// The tiered store: what moves between pinned memory and the file and when, what is looked at or
// released meanwhile, and what becomes of a file or a link that fails.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/tiered_store.h"
#include "support/bytes.h"
#include "support/checked_link.h"
#include "support/faulty.h"
#include "support/gated.h"
#include "support/memory_store.h"
#include "support/slots.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t piece_bytes = 4 * page_bytes;

// 64 pages of pinned memory are 2 buffers and 14 pieces; above 49 pages pieces move down.
constexpr std::size_t pinned_bytes = 64 * page_bytes;
constexpr std::size_t pinned_pieces = 14;
constexpr std::size_t pieces_below_mark = 12;
constexpr std::size_t buffers = 2;

// A file that fails as often as it is told to, and whose calls can be held when all is done but for
// their return.
class TroubledStore : public ForwardingStore {
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

constexpr int for_ever = 1 << 30;

struct Options {
  std::size_t pinned = pinned_bytes;
  std::size_t file = 64 * page_bytes;
  std::size_t movers = 2;
};

// A store with the means to hold and to break what is under it. In the end the link has nothing to
// complain about, and nothing stays pinned.
struct Tiered {
  std::shared_ptr<CheckedLink> link = std::make_shared<CheckedLink>();
  std::unique_ptr<Store> file_owner;
  TroubledStore* trouble = nullptr;
  GatedStore* file = nullptr;
  std::unique_ptr<TieredStore> store;

  explicit Tiered(const Options& options = {}, Faults* link_faults = nullptr,
                  Faults* file_faults = nullptr, std::size_t most_pinned_bytes = ~std::size_t{0}) {
    link->faults = link_faults;
    link->most_pinned_bytes = most_pinned_bytes;
    std::unique_ptr<Store> inner = std::make_unique<MemoryStore>(options.file);
    if (file_faults != nullptr) {
      inner = std::make_unique<FaultyStore>(std::move(inner), *file_faults);
    }
    auto troubled = std::make_unique<TroubledStore>(std::move(inner));
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
  ~Tiered() noexcept(false) {
    if (std::uncaught_exceptions() > 0) Gate::open_all();  // or threads would wait for ever
    store.reset();
    if (std::uncaught_exceptions() > 0) return;
    CHECK_EQUAL(link->complaint(), "");
    CHECK_EQUAL(link->pinned_bytes(), 0u);
  }
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
std::vector<Slot> write_pieces(Store& store, std::size_t count) {
  std::vector<Slot> slots;
  for (std::size_t n = 0; n < count; ++n) {
    slots.push_back(store.reserve(piece_bytes));
    write_cookie(store, slots.back(), n);
  }
  return slots;
}

void check_cookies(Store& store, const std::vector<Slot>& slots, std::size_t first = 0) {
  for (std::size_t n = first; n < slots.size(); ++n) CHECK(has_cookie(store, slots[n], n));
}

std::string refusal(const std::function<void()>& call, int code) {
  try {
    call();
  } catch (const StoreError& error) {
    CHECK_EQUAL(error.code, code);
    return error.what();
  }
  CHECK(false);
}

// Whether a condition holds for as long as other threads need to break it, if they would.
bool stays(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (!condition()) return false;
    std::this_thread::yield();
  }
  return true;
}

bool names(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

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

// --- what is looked at, written or released meanwhile

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

// --- what fails

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

struct Content {
  Slot slot;
  std::uint64_t cookie;
};

// Fills both tiers, looks, expects, releases. What cannot be written is released again.
std::vector<Content> use(TieredStore& store, std::size_t piece) {
  std::vector<Content> contents;
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
    const Content& one = contents[n % contents.size()];
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
          tiered = std::make_unique<Tiered>(Options{pinned_bytes, 64 * page_bytes, 1},
                                            link ? &faults : nullptr, link ? nullptr : &faults);
        } catch (const StoreError& error) {
          CHECK_EQUAL(error.code, ENOSPC);  // nothing could be pinned at all
          CHECK(link && nth < 10);
          continue;
        }
        TieredStore& store = *tiered->store;
        const std::vector<Content> contents = use(store, piece_bytes);
        tiered->check_budgets();
        faults.repair();
        std::size_t used = 0;
        for (const Content& content : contents) {
          CHECK(has_cookie(store, content.slot, content.cookie));
          used += content.slot.bytes;
        }
        CHECK_EQUAL(store.used_bytes(), used);
        for (const Content& content : contents) store.soon(content.slot);
        store.settle();
        for (const Content& content : contents) {
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
      std::vector<Content> contents;
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
        Content& one = contents.back();
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
      for (const Content& content : contents) {
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
