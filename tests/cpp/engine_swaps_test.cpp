// Swaps that are asked for: tickets, what comes first, what is evicted first.
#include <thread>
#include <vector>

#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

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
