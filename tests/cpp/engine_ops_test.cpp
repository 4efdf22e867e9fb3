// Ops: what they hold, and which are refused.
#include <memory>
#include <utility>
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
  Faults broken(1, true);
  Rig rig(kind, {}, [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
    store = std::make_unique<UnreadableStore>(std::move(store), broken);
  });
  const auto blocks = make(rig, 3);
  swap_out(rig, blocks);
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
