// Ops, tickets, faults and what is told about them.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "core/errors.h"
#include "support/faulty.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

std::uint32_t holds(Rig& rig, Address block) {
  return rig.engine().block(block)->holds;
}

}  // namespace

TEST_EACH(ops, everything_an_op_touches_is_there_and_stays, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 6);
  swap_out(rig, blocks);
  rig.engine().begin_op("op", blocks);
  for (const Address block : blocks) {
    CHECK(accessible(rig.state(block)));
    CHECK(rig.intact(block));
  }
  const Address made = rig.engine().allocate(block_bytes);
  CHECK_EQUAL(holds(rig, made), 1u);
  Task other([&] { rig.make(); });  // has the rest of the budget, one block
  other.join();
  for (const Address block : blocks) CHECK(accessible(rig.state(block)));
  rig.check();
  rig.engine().end_op();
  for (const Address block : blocks) CHECK_EQUAL(holds(rig, block), 0u);
  rig.engine().free(made);
  rig.finish();
}

TEST_EACH(ops, any_address_inside_a_block_counts_once_for_it, pairs()) {
  Rig rig(kind);
  const Address block = rig.make();
  const std::vector<Address> touched{block + 1, block, block + block_bytes - 1, 0};
  rig.engine().begin_op("op", touched);
  CHECK_EQUAL(holds(rig, block), 1u);
  rig.engine().end_op();
  CHECK_EQUAL(holds(rig, block), 0u);
  rig.finish();
}

TEST_EACH(ops, what_a_nested_op_holds_passes_to_its_parent, pairs()) {
  Rig rig(kind);
  const Address outer = rig.make();
  const Address inner = rig.make();
  rig.engine().begin_op("outer", {&outer, 1});
  rig.engine().begin_op("inner", {&inner, 1});
  const Address made = rig.engine().allocate(block_bytes);
  CHECK_EQUAL(rig.engine().op_depth(), 2u);
  rig.engine().end_op();
  CHECK_EQUAL(rig.engine().op_depth(), 1u);
  for (const Address block : {outer, inner, made}) CHECK_EQUAL(holds(rig, block), 1u);
  rig.check();
  rig.engine().end_op();
  for (const Address block : {outer, inner, made}) CHECK_EQUAL(holds(rig, block), 0u);
  rig.engine().free(made);
  rig.finish();
}

TEST_EACH(ops, a_block_freed_in_an_op_is_held_no_more, pairs()) {
  Rig rig(kind);
  const Address block = rig.make();
  rig.engine().begin_op("op", {&block, 1});
  rig.free(block);
  CHECK_EQUAL(rig.engine().stats().held_bytes, 0u);
  const Address again = rig.make();  // most likely at the same address
  rig.engine().end_op();
  rig.check();
  CHECK_EQUAL(rig.engine().stats().held_bytes, 0u);
  rig.verify(again);
  rig.finish();
}

TEST_EACH(ops, aborted_ops_hold_nothing, pairs()) {
  Rig rig(kind);
  const auto blocks = make(rig, 3);
  for (const Address& block : blocks) rig.engine().begin_op("op", {&block, 1});
  rig.engine().abort_ops(5);
  CHECK_EQUAL(rig.engine().op_depth(), 3u);
  rig.engine().abort_ops(1);
  CHECK_EQUAL(rig.engine().op_depth(), 1u);
  rig.check();
  rig.engine().abort_ops(0);
  CHECK_EQUAL(rig.engine().op_depth(), 0u);
  CHECK_EQUAL(rig.engine().stats().held_bytes, 0u);
  CHECK_THROWS(InvalidBlock, rig.engine().end_op());
  rig.finish();
}

TEST_EACH(ops, ops_belong_to_their_thread, pairs()) {
  Rig rig(kind);
  const Address block = rig.make();
  rig.engine().begin_op("mine", {&block, 1});
  Task other([&] {
    CHECK_EQUAL(rig.engine().op_depth(), 0u);
    CHECK_THROWS(InvalidBlock, rig.engine().end_op());
    rig.engine().begin_op("theirs", {&block, 1});
    CHECK_EQUAL(holds(rig, block), 2u);
    rig.engine().end_op();
  });
  other.join();
  CHECK_EQUAL(rig.engine().op_depth(), 1u);
  CHECK_EQUAL(holds(rig, block), 1u);
  rig.engine().end_op();
  rig.finish();
}

TEST_EACH(ops, one_thread_can_use_two_engines, pairs()) {
  Rig one(kind);
  Rig two(kind);
  const Address a = one.make();
  const Address b = two.make();
  one.engine().begin_op("one", {&a, 1});
  two.engine().begin_op("two", {&b, 1});
  CHECK_EQUAL(one.engine().op_depth(), 1u);
  CHECK_EQUAL(two.engine().op_depth(), 1u);
  CHECK(!one.engine().owns(b));
  two.engine().end_op();
  one.engine().end_op();
  one.finish();
  two.finish();
}

TEST_EACH(ops, an_op_larger_than_the_budget_is_refused_and_changes_nothing, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 10);
  std::vector<State> before;
  rig.engine().drain();
  for (const Address block : blocks) before.push_back(rig.state(block));
  try {
    rig.engine().begin_op("too large", blocks);
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.op, "too large");
    CHECK_EQUAL(error.requested_bytes, 10 * block_bytes);
    CHECK_EQUAL(error.used_bytes, 0u);
    CHECK_EQUAL(error.budget_bytes, 8 * block_bytes);
    CHECK_EQUAL(error.needed_bytes, 10 * block_bytes);
  }
  rig.check();
  CHECK_EQUAL(rig.engine().op_depth(), 0u);
  CHECK_EQUAL(rig.engine().stats().held_bytes, 0u);
  for (std::size_t i = 0; i < blocks.size(); ++i) CHECK(is(rig, blocks[i], before[i]));
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, a_nested_op_that_does_not_fit_leaves_its_parent_open, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 10);
  const std::vector<Address> outer(blocks.begin(), blocks.begin() + 4);
  const std::vector<Address> inner(blocks.begin() + 2, blocks.end());
  rig.engine().begin_op("outer", outer);
  try {
    rig.engine().begin_op("inner", inner);
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.needed_bytes, 10 * block_bytes);
    CHECK_EQUAL(error.op, "inner");
  }
  CHECK_EQUAL(rig.engine().op_depth(), 1u);
  for (const Address block : outer) CHECK_EQUAL(holds(rig, block), 1u);
  CHECK_EQUAL(rig.engine().stats().held_bytes, 4 * block_bytes);
  rig.engine().end_op();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, an_op_whose_bytes_cannot_be_read_is_not_opened, pairs()) {
  Faults faults(1, true);
  faults.repair();
  Faults* current = &faults;
  struct Switched : ForwardingStore {
    Faults*& faults;
    Switched(std::unique_ptr<Store> inner, Faults*& f)
        : ForwardingStore(std::move(inner)), faults(f) {}
    void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
      if (faults->fails()) throw StoreError("injected", EIO);
      inner_->read(slot, offset, to, bytes);
    }
  };
  Rig rig(kind, {}, [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
    store = std::make_unique<Switched>(std::move(store), current);
  });
  const auto blocks = make(rig, 3);
  swap_out(rig, blocks);
  Faults broken(1, true);
  current = &broken;
  CHECK_THROWS(StoreError, rig.engine().begin_op("op", blocks));
  rig.engine().drain();
  rig.check();
  CHECK_EQUAL(rig.engine().op_depth(), 0u);
  CHECK_EQUAL(rig.engine().stats().held_bytes, 0u);
  for (const Address block : blocks) CHECK(is(rig, block, State::out));
  const Ticket ticket = rig.engine().swap_in(blocks[0]);
  CHECK_THROWS(StoreError, rig.engine().wait(ticket));
  CHECK(rig.engine().done(ticket));
  broken.repair();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, an_urgent_swap_in_overtakes_a_long_queue, pairs()) {
  RigOptions options;
  options.workers = 1;
  Rig rig(kind, options);
  const Address urgent = rig.make(4 * block_bytes);
  swap_out(rig, {urgent});
  std::vector<Address> others;
  for (int i = 0; i < 5; ++i) others.push_back(rig.make(4 * block_bytes));
  rig.store().writes.close();
  for (const Address block : others) rig.engine().swap_out(block);
  rig.store().writes.await_waiting(1);
  const std::size_t before = rig.store().calls().size();
  rig.store().reads.close();
  Task task([&] { rig.verify(urgent); });
  // The op's swap-in is queued before the worker that is stopped in a write is let go: the engine
  // shows the block as filling.
  while (!is(rig, urgent, State::filling)) std::this_thread::yield();
  rig.store().writes.let_pass(1);
  rig.store().reads.await_waiting(1);
  CHECK_EQUAL(rig.store().calls().size(), before + 1);
  CHECK(!rig.store().calls().back().write);
  rig.open_gates();
  task.join();
  rig.engine().drain();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, retired_blocks_are_evicted_first, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 8);
  rig.engine().begin_op("op", blocks);
  const std::vector<Address> retired{blocks[6]};
  rig.engine().end_op(retired);
  rig.engine().drain();
  rig.make();
  CHECK(is(rig, blocks[6], State::out));
  for (const std::size_t i : {0, 1, 2, 3, 4, 5, 7}) CHECK(accessible(rig.state(blocks[i])));
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, a_block_can_be_retired_by_an_op_that_did_not_touch_it, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 8);
  rig.engine().begin_op("op", {});
  rig.engine().end_op({&blocks[5], 1});
  rig.engine().drain();
  rig.make();
  CHECK(is(rig, blocks[5], State::out));
  rig.finish();
}

TEST_EACH(ops, a_retired_block_that_is_used_again_is_like_any_other, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 8);
  rig.engine().begin_op("op", {&blocks[7], 1});
  rig.engine().end_op({&blocks[7], 1});
  rig.verify(blocks[7]);
  rig.engine().drain();
  rig.make();
  CHECK(accessible(rig.state(blocks[7])));
  CHECK(is(rig, blocks[0], State::out));
  rig.finish();
}

TEST_EACH(ops, a_ticket_tells_when_its_swap_has_ended, pairs()) {
  Rig rig(kind);
  const Address block = rig.make();
  rig.store().writes.close();
  const Ticket out = rig.engine().swap_out(block);
  CHECK(!rig.engine().done(out));
  rig.store().writes.open();
  rig.engine().wait(out);
  CHECK(rig.engine().done(out));
  CHECK(is(rig, block, State::out));
  rig.store().reads.close();
  const Ticket in = rig.engine().swap_in(block);
  CHECK(!rig.engine().done(in));
  rig.store().reads.open();
  rig.engine().wait(in);
  CHECK(rig.engine().done(in));
  CHECK(accessible(rig.state(block)));
  rig.finish();
}

TEST_EACH(ops, a_ticket_of_a_freed_block_keeps_nobody_waiting, pairs()) {
  Rig rig(kind);
  const Address block = rig.reach(State::cleaning);
  const Ticket out = rig.engine().swap_out(block);
  Task task([&] { rig.engine().wait(out); });
  rig.free(block);
  task.join();
  CHECK(rig.engine().done(out));
  rig.open_gates();
  rig.finish();
}

TEST_EACH(ops, asking_twice_swaps_once, pairs()) {
  Rig rig(kind);
  const Address block = rig.reach(State::cleaning);
  const Ticket one = rig.engine().swap_out(block);
  const Ticket two = rig.engine().swap_out(block);
  rig.open_gates();
  rig.engine().wait(one);
  rig.engine().wait(two);
  rig.engine().wait(rig.engine().swap_out(block));
  CHECK_EQUAL(rig.engine().stats().swap_out_count, 1u);
  rig.engine().wait(rig.engine().swap_in(block));
  rig.engine().wait(rig.engine().swap_in(block));
  CHECK_EQUAL(rig.engine().stats().swap_in_count, 1u);
  rig.finish();
}

TEST_EACH(ops, the_paranoid_policy_keeps_nothing_that_is_not_held, pairs()) {
  RigOptions options;
  options.policy = [] { return std::make_unique<Paranoid>(); };
  Rig rig(kind, options);
  const auto blocks = make(rig, 4);
  rig.engine().pin(blocks[3]);
  rig.engine().begin_op("outer", {&blocks[0], 1});
  rig.engine().begin_op("inner", {&blocks[1], 1});
  rig.engine().end_op();
  CHECK(accessible(rig.state(blocks[0])));
  CHECK(accessible(rig.state(blocks[1])));  // the parent's now
  CHECK(is(rig, blocks[2], State::out));
  CHECK(accessible(rig.state(blocks[3])));
  rig.engine().end_op();
  for (const std::size_t i : {0, 1, 2}) CHECK(is(rig, blocks[i], State::out));
  rig.engine().unpin(blocks[3]);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, a_fault_is_recorded_with_its_op_and_block, pairs()) {
  Rig rig(kind);
  const auto blocks = make(rig, 2);
  swap_out(rig, blocks);
  std::string why;
  const int me = static_cast<int>(gettid());
  CHECK(rig.engine().fault(blocks[0] + 100, me, false, why));
  rig.engine().begin_op("careless", {});
  CHECK(rig.engine().fault(blocks[1], me, true, why));
  rig.engine().end_op();
  const auto faults = rig.engine().faults();
  CHECK_EQUAL(faults.size(), 2u);
  const auto names = rig.engine().op_names();
  CHECK_EQUAL(faults[0].block, rig.engine().block(blocks[0])->id);
  CHECK_EQUAL(names[faults[0].op], "");
  CHECK_EQUAL(names[faults[1].op], "careless");
  CHECK_EQUAL(faults[1].address, blocks[1]);
  CHECK_EQUAL(rig.engine().stats().faults, 2u);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, a_fault_whose_bytes_cannot_be_had_says_why, pairs()) {
  Faults broken(1, true);
  struct Unreadable : ForwardingStore {
    Faults& faults;
    Unreadable(std::unique_ptr<Store> inner, Faults& f)
        : ForwardingStore(std::move(inner)), faults(f) {}
    void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
      if (faults.fails()) throw StoreError("injected", EIO);
      inner_->read(slot, offset, to, bytes);
    }
  };
  Rig rig(kind, {}, [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
    store = std::make_unique<Unreadable>(std::move(store), broken);
  });
  const Address block = rig.make();
  swap_out(rig, {block});
  std::string why;
  CHECK(!rig.engine().fault(block, 0, false, why));
  CHECK(why.find("injected") != std::string::npos);
  rig.check();
  broken.repair();
  CHECK(rig.engine().fault(block, 0, false, why));
  rig.verify_all();
  rig.finish();
}

TEST_EACH(ops, the_trace_tells_what_happened_and_keeps_the_last_of_it, pairs()) {
  Rig rig(kind, budget_of(4));
  rig.engine().begin_iteration();
  const Address block = rig.make();
  swap_out(rig, {block});
  rig.verify(block);
  rig.free(block);
  std::set<EventKind> kinds;
  double last = 0;
  for (const Event& event : rig.engine().trace()) {
    kinds.insert(event.kind);
    CHECK(event.time_seconds >= last);
    CHECK(event.charged_bytes <= 4 * block_bytes);
    CHECK(event.resident_bytes <= event.charged_bytes);
    last = event.time_seconds;
  }
  for (const EventKind expected :
       {EventKind::iteration, EventKind::allocate, EventKind::begin_op, EventKind::end_op,
        EventKind::swap_out, EventKind::evict, EventKind::swap_in, EventKind::free}) {
    CHECK(kinds.contains(expected));
  }
  CHECK_EQUAL(rig.engine().stats().iterations, 1u);
  rig.finish();
}

TEST(trace, it_keeps_the_last_events_in_order) {
  for (const std::size_t capacity : {1, 3, 8}) {
    Trace trace(capacity);
    for (std::uint64_t n = 0; n < 20; ++n) {
      Event event{};
      event.block = n;
      trace.add(event);
      const auto events = trace.events();
      CHECK_EQUAL(events.size(), std::min<std::size_t>(capacity, n + 1));
      for (std::size_t i = 0; i < events.size(); ++i) {
        CHECK_EQUAL(events[i].block, n + 1 - events.size() + i);
      }
    }
  }
}

TEST_EACH(ops, statistics_add_up, pairs()) {
  Rig rig(kind);
  const auto blocks = make(rig, 3);
  swap_out(rig, blocks);
  rig.verify_all();
  const Stats stats = rig.engine().stats();
  CHECK_EQUAL(stats.allocations, 3u);
  CHECK_EQUAL(stats.live_bytes, 3 * block_bytes);
  CHECK_EQUAL(stats.resident_bytes, 3 * block_bytes);
  CHECK_EQUAL(stats.swap_out_bytes, 3 * block_bytes);
  CHECK_EQUAL(stats.swap_in_bytes, 3 * block_bytes);
  CHECK_EQUAL(stats.clean_evictions, 3u);
  CHECK_EQUAL(stats.largest_op_bytes, block_bytes);
  std::uint64_t calls = 0;
  for (const OpStats& op : stats.by_op) {
    calls += op.calls;
    CHECK(op.seconds >= op.stall_seconds);
    if (op.name == "verify") CHECK_EQUAL(op.swap_in_bytes, 3 * block_bytes);
  }
  CHECK_EQUAL(calls, 6u);
  rig.finish();
}
