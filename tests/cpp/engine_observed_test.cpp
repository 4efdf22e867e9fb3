// What is told of an engine: faults, its trace, statistics.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/errors.h"
#include "support/faulty.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

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
  Rig rig(kind, {}, [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
    store = std::make_unique<UnreadableStore>(std::move(store), broken);
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

TEST_EACH(ops, copies_both_ways_at_once_are_told_from_others, pairs()) {
  Rig rig(kind);
  const auto blocks = make(rig, 2);
  swap_out(rig, {blocks[0]});
  rig.store().writes.close();
  rig.store().reads.close();
  rig.engine().swap_out(blocks[1]);
  rig.store().writes.await_waiting(1);
  rig.engine().swap_in(blocks[0]);
  rig.store().reads.await_waiting(1);
  rig.open_gates();
  rig.engine().drain();
  const Stats stats = rig.engine().stats();
  CHECK(stats.duplex_busy_seconds > 0);
  for (const double bytes : {stats.swap_out_duplex_bytes, stats.swap_in_duplex_bytes}) {
    CHECK(bytes > 0 && bytes <= block_bytes);
  }
  rig.verify_all();
  rig.finish();
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
  CHECK_EQUAL(stats.duplex_busy_seconds, 0.0);
  CHECK_EQUAL(stats.swap_out_duplex_bytes, 0.0);
  CHECK_EQUAL(stats.swap_in_duplex_bytes, 0.0);
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
