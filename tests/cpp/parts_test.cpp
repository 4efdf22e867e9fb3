// Arrays of several parts: one array to whoever uses it, and blocks that move each for itself.
#include <vector>

#include "core/errors.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t part_bytes = 4 * block_bytes;

RigOptions in_parts(std::size_t budget_bytes = 64 * block_bytes) {
  RigOptions options;
  options.budget_bytes = budget_bytes;
  options.part_bytes = part_bytes;
  return options;
}

}  // namespace

TEST_EACH(parts, an_array_is_one_range_and_any_address_in_it_stands_for_all, pairs()) {
  Rig rig(kind, in_parts());
  Engine& engine = rig.engine();
  // 1, 4 and 4 blocks.
  const std::size_t bytes = 2 * part_bytes + 100;
  const Address array = rig.make(bytes);
  CHECK_EQUAL(engine.capacity_bytes(array), 2 * part_bytes + block_bytes);
  CHECK_EQUAL(engine.block(array)->bytes, bytes);
  const Address inside = array + bytes - 1;
  engine.begin_op("reads its end", {&inside, 1});
  CHECK_EQUAL(engine.stats().held_bytes, 2 * part_bytes + block_bytes);
  CHECK_THROWS(InvalidBlock, engine.swap_out(array));
  engine.end_op();
  engine.wait(engine.swap_out(inside));
  CHECK(rig.state(array) == State::out);
  CHECK_EQUAL(engine.stats().swap_out_count, 3u);
  CHECK_EQUAL(engine.stats().resident_bytes, 0u);
  engine.pin(inside);
  CHECK(rig.intact(array));
  engine.unpin(array);
  CHECK_THROWS(InvalidBlock, engine.unpin(array));
  CHECK_THROWS(InvalidBlock, engine.free(array + part_bytes));
  rig.verify(array);
  rig.finish();
}

TEST_EACH(parts, a_range_serves_arrays_of_as_many_parts_and_no_others, pairs()) {
  Rig rig(kind, in_parts());
  const Address whole = rig.make(2 * part_bytes);
  rig.free(whole);
  // As large as one part.
  const Address single = rig.make(part_bytes);
  CHECK(single != whole && single != whole + part_bytes);
  CHECK_EQUAL(rig.make(2 * part_bytes), whole);
  const Address other = rig.make(3 * part_bytes);
  CHECK(other >= whole + 2 * part_bytes || other + 3 * part_bytes <= whole);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(parts, memory_of_parts_serves_other_arrays, pairs()) {
  Rig rig(kind, in_parts(2 * part_bytes));
  rig.free(rig.make(2 * part_bytes));
  std::vector<Address> small;
  for (std::size_t i = 0; i < 8; ++i) small.push_back(rig.make());
  for (const Address array : small) rig.free(array);
  const Address again = rig.make(2 * part_bytes);
  rig.verify(again);
  rig.finish();
}

TEST_EACH(parts, one_comes_in_as_soon_as_one_of_another_array_has_left, pairs()) {
  // So much more that nothing is copied ahead of need.
  Rig rig(kind, in_parts(3 * part_bytes + 2 * block_bytes));
  Engine& engine = rig.engine();
  const Address first = rig.make(2 * part_bytes);
  engine.wait(engine.swap_out(first));
  const Address second = rig.make(2 * part_bytes);
  rig.make(part_bytes);
  // Of the second array all chunks but one are copied: one part leaves, the other cannot yet.
  rig.store().writes.close();
  rig.store().reads.close();
  engine.swap_out(second);
  rig.store().writes.let_pass(2 * part_bytes / block_bytes - 1);
  Task task([&] {
    engine.begin_op("needs the first", {&first, 1});
    engine.end_op();
  });
  rig.store().reads.await_waiting(1);
  CHECK_EQUAL(engine.stats().swap_out_count, 3u);
  rig.open_gates();
  task.join();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(parts, what_does_not_fit_is_said_of_the_whole_array, pairs()) {
  Rig rig(kind, in_parts(3 * part_bytes));
  Engine& engine = rig.engine();
  const Address pinned = rig.make(part_bytes);
  engine.pin(pinned);
  try {
    engine.allocate(3 * part_bytes);
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.requested_bytes, 3 * part_bytes);
    CHECK_EQUAL(error.used_bytes, part_bytes);
    CHECK_EQUAL(error.needed_bytes, 4 * part_bytes);
  }
  engine.unpin(pinned);
  rig.verify(rig.make(3 * part_bytes));
  rig.verify(pinned);
  rig.finish();
}

TEST(parts, are_of_a_power_of_two_bytes_and_no_less_than_a_frame) {
  for (const std::size_t bytes : {3 * block_bytes, block_bytes / 2, std::size_t{0}}) {
    RigOptions options;
    options.part_bytes = bytes;
    CHECK_THROWS(std::invalid_argument, Rig(pairs().front(), options));
  }
}
