// Room within the budget: who waits, what is evicted, and what is refused.
#include <atomic>
#include <cerrno>
#include <limits>
#include <string>
#include <vector>

#include "core/errors.h"
#include "core/policy.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

std::vector<std::string> states(Rig& rig) {
  std::vector<std::string> result;
  for (const Address block : rig.live()) result.push_back(name(rig.state(block)));
  return result;
}

}  // namespace

TEST_EACH(memory, data_of_eight_times_the_budget_survives, pairs()) {
  Rig rig(kind, budget_of(6));
  for (int i = 0; i < 48; ++i) rig.make();
  rig.verify_all();
  for (const Address block : rig.live()) rig.rewrite(block);
  rig.verify_all();
  CHECK(rig.engine().stats().peak_charged_bytes <= 6 * block_bytes);
  rig.finish();
}

TEST_EACH(memory, blocks_of_many_sizes_share_the_budget, pairs()) {
  Rig rig(kind, budget_of(48));
  for (int round = 0; round < 2; ++round) {
    for (std::size_t n = 1; n <= 16; ++n) rig.make(n * 50000 + n);
    rig.make(40 * block_bytes);
    rig.verify_all();
    const std::vector<Address> live = rig.live();
    for (std::size_t i = 0; i < live.size(); i += 2) rig.free(live[i]);
  }
  rig.verify_all();
  rig.finish();
}

TEST_EACH(memory, addresses_and_ids_never_change_while_a_block_lives, pairs()) {
  Rig rig(kind, budget_of(4));
  std::vector<std::pair<Address, std::uint64_t>> known;
  for (int i = 0; i < 12; ++i) {
    const Address block = rig.make();
    known.emplace_back(block, rig.engine().block(block)->id);
    for (const auto& [address, id] : known) {
      CHECK_EQUAL(rig.engine().block(address)->address, address);
      CHECK_EQUAL(rig.engine().block(address + block_bytes - 1)->id, id);
      CHECK_EQUAL(rig.engine().block(address)->id, id);
    }
  }
  for (std::size_t i = 0; i < known.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) CHECK(known[i].second != known[j].second);
  }
  rig.finish();
}

TEST_EACH(memory, a_freed_block_is_reused_warm, pairs()) {
  Rig rig(kind);
  const Address block = rig.make(10 * block_bytes);
  rig.free(block);
  bool zeroed = true;
  const std::uint64_t hits = rig.engine().stats().warm_hits;
  CHECK_EQUAL(rig.engine().allocate(10 * block_bytes - 100, &zeroed), block);
  CHECK(!zeroed);
  CHECK_EQUAL(rig.engine().stats().warm_hits, hits + 1);
  rig.engine().free(block);
  rig.finish();
}

TEST_EACH(memory, what_is_said_to_be_zero_is_zero, pairs()) {
  Rig rig(kind, budget_of(12));
  for (int round = 0; round < 40; ++round) {
    const std::size_t bytes = (1 + round * 7 % 11) * block_bytes - 8;
    rig.engine().begin_op("zeros", {});
    bool zeroed = false;
    const Address block = rig.engine().allocate(bytes, &zeroed);
    if (zeroed) CHECK(all_zero(block, bytes));
    fill(block, bytes, 1);
    rig.engine().end_op();
    if (round % 3 == 0) rig.engine().wait(rig.engine().swap_out(block));
    rig.engine().free(block);
    if (round % 5 == 0) rig.engine().trim();
    rig.check();
  }
  rig.finish();
}

TEST_EACH(memory, sizes_that_make_no_sense_are_refused_and_none_is_too_small, pairs()) {
  Rig rig(kind, budget_of(8));
  const Address kept = rig.make();
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const std::size_t bytes : {most, most - page_bytes, most / 2, most / 2 + 1,
                                  std::size_t{1} << 60, 8 * block_bytes + 1}) {
    try {
      rig.engine().allocate(bytes);
      CHECK(false);
    } catch (const OutOfMemory& error) {
      CHECK(error.requested_bytes >= bytes);
      CHECK_EQUAL(error.budget_bytes, 8 * block_bytes);
      CHECK(error.needed_bytes >= error.requested_bytes);
    }
    rig.check();
    CHECK_EQUAL(name(rig.state(kept)), std::string("resident"));
  }
  for (const std::size_t bytes : {0, 1}) {
    const Address block = rig.engine().allocate(bytes);
    rig.engine().wait(rig.engine().swap_out(block));
    rig.engine().wait(rig.engine().swap_in(block));
    rig.check();
    rig.engine().free(block);
  }
  rig.finish();
}

TEST_EACH(memory, a_budget_without_room_for_a_block_is_refused, pairs()) {
  try {
    Rig rig(kind, RigOptions{.budget_bytes = min_block_bytes - 1});
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.budget_bytes, min_block_bytes - 1);
    CHECK_EQUAL(error.needed_bytes, min_block_bytes);
  }
}

TEST_EACH(memory, the_whole_budget_can_be_used_by_one_block, pairs()) {
  Rig rig(kind, budget_of(16));
  const Address small = rig.make();
  const Address large = rig.make(16 * block_bytes);
  CHECK_EQUAL(name(rig.state(small)), std::string("out"));
  rig.verify(small);
  rig.verify(large);
  rig.finish();
}

TEST_EACH(memory, what_is_no_block_of_ours_is_refused, pairs()) {
  Rig rig(kind);
  const Address block = rig.make();
  Engine& engine = rig.engine();
  int elsewhere = 0;
  const Address foreign = reinterpret_cast<Address>(&elsewhere);
  for (const Address address : {Address{0}, foreign, block + block_bytes, ~Address{0}}) {
    CHECK_THROWS(InvalidBlock, engine.free(address));
    CHECK_THROWS(InvalidBlock, engine.swap_out(address));
    CHECK_THROWS(InvalidBlock, engine.swap_in(address));
    CHECK_THROWS(InvalidBlock, engine.pin(address));
    CHECK_THROWS(InvalidBlock, engine.unpin(address));
    CHECK(!engine.block(address).has_value());
    CHECK_EQUAL(engine.capacity_bytes(address), 0u);
    CHECK_EQUAL(engine.prefetch({&address, 1}), 0u);
    engine.begin_op("op", {&address, 1});
    engine.end_op({&address, 1});
    std::string why;
    CHECK(!engine.fault(address, 0, true, why));
    CHECK(!why.empty());
  }
  CHECK_THROWS(InvalidBlock, engine.free(block + 1));
  rig.free(block);
  CHECK_THROWS(InvalidBlock, engine.free(block));
  rig.finish();
}

TEST_EACH(memory, the_block_used_longest_ago_leaves_first, pairs()) {
  Rig rig(kind, budget_of(8));
  std::vector<Address> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(rig.make());
  rig.verify(blocks[0]);
  rig.engine().drain();
  const Address next = rig.make();
  CHECK_EQUAL(name(rig.state(blocks[1])), std::string("out"));
  CHECK(accessible(rig.state(blocks[0])));
  CHECK(accessible(rig.state(next)));
  rig.finish();
}

TEST_EACH(memory, copies_are_made_ahead_of_need, pairs()) {
  Rig rig(kind, budget_of(16));
  for (int i = 0; i < 16; ++i) rig.make();
  rig.engine().drain();
  CHECK(rig.engine().stats().swap_out_count >= 1);
  CHECK_EQUAL(rig.engine().stats().clean_evictions, 0u);
  rig.store().writes.close();  // no copy is needed for the next block
  rig.make();
  CHECK_EQUAL(rig.engine().stats().clean_evictions, 1u);
  rig.store().writes.open();
  rig.finish();
}

TEST_EACH(memory, an_allocation_waits_for_memory_that_is_on_its_way, pairs()) {
  Rig rig(kind, budget_of(4));
  rig.store().writes.close();
  for (int i = 0; i < 4; ++i) rig.make();
  Task task([&] { rig.make(2 * block_bytes); });
  rig.store().writes.await_waiting(2);
  CHECK(!task.done());
  rig.open_gates();
  task.join();
  CHECK(rig.engine().stats().stall_seconds > 0);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(memory, a_block_that_is_busy_for_a_moment_is_waited_for, pairs()) {
  static std::atomic<int> looks;  // at who could leave; made with the engine's lock held
  struct Watched : LeastRecentlyUsed {
    Block* first() const override {
      ++looks;
      looks.notify_all();
      return LeastRecentlyUsed::first();
    }
  };
  RigOptions options = budget_of(8);
  options.policy = [] { return std::make_unique<Watched>(); };
  Rig rig(kind, options);
  const Address block = rig.reach(State::clean);
  for (const Address other : rig.live()) {
    if (other != block) rig.engine().pin(other);
  }
  // The only block that could leave is being made writable.
  rig.device().protects.close();
  Task writer([&] {
    std::string why;
    if (rig.sees_writes()) {
      CHECK(rig.engine().fault(block, 0, true, why));
    } else {
      rig.engine().swap_in(block);
    }
  });
  rig.device().protects.await_waiting(1);
  const int before = looks;
  Address next = 0;
  Task waiter([&] { next = rig.engine().allocate(block_bytes); });
  looks.wait(before);
  rig.device().protects.open();
  writer.join();
  waiter.join();
  CHECK_EQUAL(name(rig.state(block)), std::string("out"));
  rig.engine().free(next);
  for (const Address other : rig.live()) {
    if (other != block) rig.engine().unpin(other);
  }
  rig.verify_all();
  rig.finish();
}

TEST_EACH(memory, out_of_memory_says_what_is_held_and_changes_nothing, pairs()) {
  Rig rig(kind, budget_of(8));
  std::vector<Address> held;
  for (int i = 0; i < 6; ++i) held.push_back(rig.make());
  rig.make();
  rig.engine().begin_op("convolution", held);
  const auto before = states(rig);
  try {
    rig.engine().allocate(3 * block_bytes);
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.requested_bytes, 3 * block_bytes);
    CHECK_EQUAL(error.used_bytes, 6 * block_bytes);
    CHECK_EQUAL(error.budget_bytes, 8 * block_bytes);
    CHECK_EQUAL(error.needed_bytes, 9 * block_bytes);
    CHECK_EQUAL(error.op, "convolution");
    CHECK(std::string(error.what()).find("convolution") != std::string::npos);
  }
  rig.check();
  CHECK_EQUAL(rig.engine().op_depth(), 1u);
  for (const Address block : held) CHECK(accessible(rig.state(block)));
  const Address fits = rig.engine().allocate(2 * block_bytes);
  rig.engine().end_op();
  rig.engine().free(fits);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(memory, pins_that_do_not_fit_say_so_and_pin_nothing, pairs()) {
  Rig rig(kind, budget_of(4));
  std::vector<Address> blocks;
  for (int i = 0; i < 6; ++i) blocks.push_back(rig.make());
  for (int i = 0; i < 4; ++i) rig.engine().pin(blocks[static_cast<std::size_t>(i)]);
  try {
    rig.engine().pin(blocks[4]);
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.requested_bytes, block_bytes);
    CHECK_EQUAL(error.used_bytes, 4 * block_bytes);
    CHECK_EQUAL(error.needed_bytes, 5 * block_bytes);
  }
  rig.check();
  CHECK_EQUAL(rig.engine().block(blocks[4])->pins, 0u);
  for (int i = 0; i < 4; ++i) rig.engine().unpin(blocks[static_cast<std::size_t>(i)]);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(memory, trim_gives_back_all_that_waits, pairs()) {
  Rig rig(kind);
  const Address kept = rig.make();
  for (int i = 0; i < 5; ++i) rig.free(rig.make((1 + i) * block_bytes));
  const std::size_t cached = rig.engine().stats().cached_bytes;
  CHECK(cached > 0);
  CHECK_EQUAL(rig.engine().trim(), cached);
  CHECK_EQUAL(rig.engine().stats().charged_bytes, block_bytes);
  CHECK_EQUAL(rig.engine().trim(), 0u);
  rig.verify(kept);
  rig.finish();
}

TEST_EACH(memory, who_needs_what_a_trim_is_giving_back_waits_for_it, pairs()) {
  Rig rig(kind, budget_of(4));
  const Address kept = rig.make(2 * block_bytes);
  rig.engine().pin(kept);
  rig.free(rig.make(2 * block_bytes));
  rig.engine().drain();  // it may be on its way to the store
  rig.device().decommits.close();
  Task trim([&] { rig.engine().trim(); });
  rig.device().decommits.await_waiting(1);
  rig.engine().check_invariants();
  Address next = 0;
  Task other([&] { next = rig.engine().allocate(2 * block_bytes); });
  rig.open_gates();
  trim.join();
  other.join();
  rig.engine().free(next);
  rig.engine().unpin(kept);
  rig.finish();
}

TEST_EACH(memory, drain_returns_when_nothing_is_under_way, pairs()) {
  Rig rig(kind);
  rig.engine().drain();
  const Address block = rig.reach(State::cleaning);
  Task task([&] { rig.engine().drain(); });
  CHECK(!task.done());
  rig.open_gates();
  task.join();
  CHECK_EQUAL(name(rig.state(block)), std::string("out"));
  rig.finish();
}

TEST_EACH(memory, a_full_store_is_an_error_at_the_caller_and_loses_nothing, pairs()) {
  RigOptions options = budget_of(4);
  options.store_bytes = 3 * block_bytes;
  Rig rig(kind, options);
  std::size_t made = 0;
  bool refused = false;
  while (!refused && made < 20) {
    try {
      rig.make();
      ++made;
    } catch (const StoreError& error) {
      CHECK_EQUAL(error.code, ENOSPC);
      refused = true;
      rig.engine().abort_ops(0);
    }
  }
  CHECK(refused);
  CHECK(made >= 4);
  rig.engine().drain();
  rig.check();
  rig.free(rig.live().front());
  rig.free(rig.live().front());
  rig.free(rig.live().front());
  rig.verify_all();
  rig.finish();
}

TEST_EACH(memory, quick_calls_return_the_same_block_and_leak_nothing, pairs()) {
  Rig rig(kind, budget_of(8));
  Engine& engine = rig.engine();
  const Address first = engine.allocate_quick(3 * block_bytes);
  engine.free_quick(first, 3 * block_bytes);
  CHECK_EQUAL(engine.allocate_quick(3 * block_bytes - 100), first);
  const Address second = engine.allocate_quick(3 * block_bytes);
  CHECK(second != first);
  engine.check_invariants();
  engine.free_quick(first, 3 * block_bytes - 100);
  CHECK_EQUAL(engine.stats().live_bytes, 3 * block_bytes);
  engine.free(second);
  rig.finish();
}

TEST_EACH(memory, the_copy_of_a_block_that_was_freed_quickly_is_given_back, pairs()) {
  Rig rig(kind, budget_of(8));
  Engine& engine = rig.engine();
  const Address first = engine.allocate_quick(block_bytes);
  engine.free_quick(first, block_bytes);
  while (engine.trace().back().kind != EventKind::swap_out) {
    engine.allocate(block_bytes + page_bytes);  // until copies are made ahead of need
    engine.drain();
  }
  CHECK_EQUAL(engine.stats().store_bytes, 0u);  // the block was freed: it needs no copy
}
