// Plans: what an iteration records, and blocks that leave and come back where a plan says so.
#include <string>
#include <thread>
#include <vector>

#include "core/plan.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::uint32_t none = no_plan_block;

std::vector<std::string> described(const Record& record) {
  std::vector<std::string> lines;
  for (const RecordItem& item : record.items) {
    const char* kinds[] = {"exists", "begin", "touch", "allocate", "free", "fault", "stall", "end"};
    lines.push_back(std::string(kinds[static_cast<std::size_t>(item.kind)]) +
                    (item.block == 0 ? "" : " " + std::to_string(item.block)));
  }
  return lines;
}

PlanStep step(std::vector<std::uint32_t> fetch = {}, std::vector<std::uint32_t> leave = {},
              std::size_t need_bytes = 0) {
  return {0, std::move(fetch), std::move(leave), need_bytes};
}

// A program of three ops: "a" touches a block that is there for good and makes one, "b" does
// nothing to them, "c" touches both and frees the second.
struct Program {
  Rig& rig;
  Address kept = 0;
  Address made = 0;

  void a() {
    rig.engine().begin_op("a", std::vector{kept});
    made = rig.make();
    rig.engine().end_op();
  }
  void b() {
    rig.engine().begin_op("b", {});
    rig.engine().end_op();
  }
  void c() {
    rig.engine().begin_op("c", std::vector{kept, made});
    CHECK(rig.intact(kept));
    CHECK(rig.intact(made));
    rig.engine().end_op();
    rig.free(made);
  }
  PlanBlock kept_block() const {
    return {block_bytes, kept, rig.engine().block(kept)->id, none, none, 0};
  }
};

const std::vector<std::string> names{"a", "b", "c"};

}  // namespace

TEST_EACH(plan, an_iteration_is_recorded_in_order_without_what_came_before, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  const std::uint64_t kept = rig.engine().block(program.kept)->id;
  rig.engine().begin_iteration();
  program.a();
  const std::uint64_t made = rig.engine().block(program.made)->id;
  program.b();
  rig.engine().begin_iteration();
  const Record record = rig.engine().last_iteration();
  const std::string k = " " + std::to_string(kept);
  const std::string m = " " + std::to_string(made);
  const std::vector<std::string> expected{"exists" + k, "begin", "touch" + k, "allocate" + m,
                                          "end",        "begin", "end"};
  CHECK(described(record) == expected);
  CHECK(record.ended_seconds >= record.begun_seconds);
  CHECK_EQUAL(record.items[0].bytes, block_bytes);
  rig.finish();
}

TEST_EACH(plan, ops_inside_an_op_and_of_other_threads_are_no_ops_of_the_iteration, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  rig.engine().begin_iteration();
  rig.engine().begin_op("outer", {});
  rig.engine().begin_op("inner", std::vector{program.kept});
  rig.engine().end_op();
  rig.engine().end_op();
  Task other([&] {
    rig.engine().begin_op("other", std::vector{program.kept});
    rig.engine().end_op();
  });
  other.join();
  rig.engine().begin_iteration();
  const std::string k = " " + std::to_string(rig.engine().block(program.kept)->id);
  const std::vector<std::string> expected{"exists" + k, "begin", "touch" + k, "end"};
  CHECK(described(rig.engine().last_iteration()) == expected);
  rig.finish();
}

TEST_EACH(plan, blocks_leave_after_their_op_and_are_back_before_the_next, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  // Block 0 is there for good; block 1 is the first that op 0 (slot 1) makes.
  const Plan plan{{program.kept_block(), {block_bytes, 0, 0, none, 1, 0}},
                  {},
                  {step({}, {0, 1}), step({0, 1}), step()}};
  rig.engine().set_plan(plan, names);
  for (int iteration = 0; iteration < 3; ++iteration) {
    rig.engine().begin_iteration();
    rig.engine().follow_plan();
    program.a();
    rig.engine().drain();
    CHECK_EQUAL(name(rig.state(program.kept)), std::string("out"));
    CHECK_EQUAL(name(rig.state(program.made)), std::string("out"));
    program.b();
    rig.engine().drain();
    CHECK(accessible(rig.state(program.kept)));
    CHECK(accessible(rig.state(program.made)));
    program.c();
    rig.check();
  }
  const Stats stats = rig.engine().stats();
  CHECK_EQUAL(stats.planned_iterations, 3u);
  CHECK_EQUAL(stats.plan_misses, 0u);
  CHECK_EQUAL(stats.unplanned_evictions, 0u);
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, what_one_iteration_made_is_found_where_it_stands_in_the_next, pairs()) {
  Rig rig(kind);
  // Each iteration makes a block in op 0 and frees the one that the iteration before has made,
  // which leaves at the begin.
  const Plan plan{
      {{block_bytes, 0, 0, none, 1, 0}, {block_bytes, 0, 0, 0, none, 0}}, {1}, {step()}};
  rig.engine().set_plan(plan, std::vector<std::string>{"a"});
  Address before = 0;
  for (int iteration = 0; iteration < 3; ++iteration) {
    rig.engine().begin_iteration();
    rig.engine().follow_plan();
    rig.engine().drain();
    if (before != 0) CHECK_EQUAL(name(rig.state(before)), std::string("out"));
    rig.engine().begin_op("a", {});
    const Address made = rig.make();
    rig.engine().end_op();
    if (before != 0) rig.free(before);
    before = made;
  }
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, a_block_that_is_held_leaves_when_it_no_longer_is, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  rig.engine().set_plan({{program.kept_block()}, {}, {step({}, {0}), step(), step()}}, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  rig.engine().pin(program.kept);
  program.a();
  rig.engine().drain();
  CHECK(accessible(rig.state(program.kept)));
  rig.engine().unpin(program.kept);
  program.b();
  rig.engine().drain();
  CHECK_EQUAL(name(rig.state(program.kept)), std::string("out"));
  program.c();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, a_fetch_waits_for_room_and_leaves_what_the_op_will_allocate, pairs()) {
  Rig rig(kind, budget_of(4));
  const Address a = rig.make();
  const Address b = rig.make();
  const PlanBlock blocks[] = {{block_bytes, a, rig.engine().block(a)->id, none, none, 0},
                              {block_bytes, b, rig.engine().block(b)->id, none, none, 0}};
  // Op "b" asks for both blocks and allocates two more; only then is there room for one.
  rig.engine().set_plan(
      {{blocks[0], blocks[1]},
       {0, 1},
       {step({}, {}, 2 * block_bytes), step({0, 1}, {}, 2 * block_bytes), step()}},
      names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  rig.engine().drain();
  rig.engine().begin_op("a", {});
  std::vector<Address> made{rig.make(), rig.make()};
  rig.engine().end_op();
  rig.engine().begin_op("b", {});
  rig.engine().drain();
  CHECK_EQUAL(name(rig.state(a)), std::string("out"));
  made.push_back(rig.make());
  made.push_back(rig.make());
  rig.free(made[0]);
  rig.engine().end_op();
  rig.engine().drain();
  CHECK(accessible(rig.state(a)));
  CHECK_EQUAL(name(rig.state(b)), std::string("out"));
  CHECK_EQUAL(rig.engine().stats().unplanned_evictions, 0u);
  rig.free(made[1]);
  rig.engine().begin_op("c", {});
  rig.engine().drain();
  CHECK(accessible(rig.state(b)));
  rig.engine().end_op();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, a_fetch_starts_when_what_makes_room_for_it_has_left, pairs()) {
  Rig rig(kind, budget_of(4));
  const Address leaving = rig.make(3 * block_bytes);
  const Address coming = rig.make();
  rig.engine().wait(rig.engine().swap_out(coming));
  const Address filler = rig.make();
  rig.engine().drain();
  const auto there = [&](Address a, std::size_t blocks) {
    return PlanBlock{blocks * block_bytes, a, rig.engine().block(a)->id, none, none, 0};
  };
  rig.engine().set_plan(
      {{there(leaving, 3), there(coming, 1)}, {}, {step({}, {0}), step({1}), step()}}, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  rig.store().writes.close();
  rig.engine().begin_op("a", std::vector{leaving, filler});
  rig.write_in_open_op(leaving);  // so that it has to be copied
  rig.engine().end_op();
  rig.engine().begin_op("b", {});
  CHECK_EQUAL(name(rig.state(coming)), std::string("out"));
  rig.store().writes.open();
  rig.engine().drain();  // no other call lets it come
  CHECK(accessible(rig.state(coming)));
  CHECK_EQUAL(name(rig.state(leaving)), std::string("out"));
  rig.engine().end_op();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, a_block_that_is_just_leaving_is_fetched_when_it_has_left, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  rig.engine().set_plan({{program.kept_block()}, {}, {step({}, {0}), step({0}), step()}}, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  rig.device().moves.close();
  program.a();
  rig.device().moves.await_waiting(1);
  rig.engine().begin_op("b", {});
  CHECK_EQUAL(name(rig.state(program.kept)), std::string("evicting"));
  rig.device().moves.open();
  rig.engine().drain();
  CHECK(accessible(rig.state(program.kept)));
  rig.engine().end_op();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, another_op_than_the_next_ends_it_until_the_next_iteration, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  const Plan plan{{program.kept_block()}, {}, {step(), step({}, {0}), step()}};
  rig.engine().set_plan(plan, names);
  rig.engine().begin_iteration();
  CHECK(!rig.engine().follows_plan());
  rig.engine().follow_plan();
  CHECK(rig.engine().follows_plan());
  program.b();  // "a" is due
  CHECK(!rig.engine().follows_plan());
  program.b();
  rig.engine().drain();
  CHECK(accessible(rig.state(program.kept)));
  CHECK_EQUAL(rig.engine().stats().plan_misses, 1u);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  std::thread([&] { CHECK(!rig.engine().follows_plan()); }).join();
  program.a();
  program.b();
  rig.engine().drain();
  CHECK_EQUAL(name(rig.state(program.kept)), std::string("out"));
  program.c();
  CHECK_EQUAL(rig.engine().stats().plan_misses, 1u);
  rig.finish();
}

TEST_EACH(plan, a_block_of_another_size_ends_it, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  const Plan plan{{{2 * block_bytes, 0, 0, none, 1, 0}}, {}, {step({}, {0}), step(), step()}};
  rig.engine().set_plan(plan, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  program.a();
  rig.engine().drain();
  CHECK(accessible(rig.state(program.made)));
  CHECK_EQUAL(rig.engine().stats().plan_misses, 1u);
  rig.finish();
}

TEST_EACH(plan, a_short_iteration_is_a_miss, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  rig.engine().set_plan({{}, {}, {step(), step(), step()}}, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  program.a();
  rig.engine().begin_iteration();
  CHECK_EQUAL(rig.engine().stats().plan_misses, 1u);
  rig.finish();
}

TEST_EACH(plan, where_it_leaves_too_little_room_others_leave_and_are_counted, pairs()) {
  Rig rig(kind, budget_of(4));
  Program program{rig, rig.make()};
  const auto others = make(rig, 3);
  rig.engine().drain();
  rig.engine().set_plan({{}, {}, {step(), step(), step()}}, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  program.a();  // holds one block and makes one: one of the others has to leave
  CHECK(rig.engine().stats().unplanned_evictions >= 1u);
  program.b();
  program.c();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(plan, nothing_is_copied_ahead_of_need_while_it_is_followed, pairs()) {
  Rig rig(kind, budget_of(8));
  Program program{rig, rig.make()};
  const auto others = make(rig, 6);
  rig.engine().set_plan({{}, {}, {step(), step(), step()}}, names);
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  program.a();  // fills the budget
  rig.engine().drain();
  CHECK_EQUAL(rig.engine().stats().swap_out_count, 0u);
  rig.engine().wait(rig.engine().swap_out(others[0]));
  CHECK_EQUAL(rig.engine().prefetch(others), others.size());
  rig.engine().drain();
  CHECK_EQUAL(name(rig.state(others[0])), std::string("out"));
  rig.finish();
}

TEST_EACH(plan, blocks_that_are_gone_are_let_be, pairs()) {
  Rig rig(kind);
  Program program{rig, rig.make()};
  const Plan plan{{program.kept_block(), {block_bytes, 0, 0, none, 1, 0}},
                  {},
                  {step({}, {0, 1}), step({0, 1}), step()}};
  rig.engine().set_plan(plan, names);
  rig.free(program.kept);
  program.kept = rig.make();  // perhaps at the same address
  rig.engine().begin_iteration();
  rig.engine().follow_plan();
  program.a();
  rig.free(program.made);
  rig.engine().drain();
  CHECK(accessible(rig.state(program.kept)));
  program.b();
  rig.engine().drain();
  rig.verify_all();
  rig.finish();
}
