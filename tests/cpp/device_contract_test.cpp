// What device.h promises, for every device.
#include <algorithm>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "support/bytes.h"
#include "support/kinds.h"
#include "support/probe.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

std::size_t small_bytes(const Device& device) {
  return std::max(min_block_bytes, device.unit_bytes());
}

// Spans of the kinds the engine uses: small and of units, whole frames, frames
// and a rest.
std::vector<Span> spans(const Device& device) {
  const std::size_t frame = device.frame_bytes();
  const Address base = device.region().address;
  const std::size_t small = small_bytes(device);
  return {{base + 16 * frame + small, small},
          {base + 32 * frame, frame},
          {base + 48 * frame, 3 * frame + 3 * device.unit_bytes()}};
}

bool fresh(const Device& device, Span span) {
  return !device.commits_zeros() || all_zero(span.address, span.bytes);
}

Span elsewhere(const Device& device, Span span) {
  return {span.address + 64 * device.frame_bytes(), span.bytes};
}

}  // namespace

TEST_EACH(device, the_region_starts_at_a_frame_and_is_closed, all_devices()) {
  const auto device = kind.make();
  const std::size_t frame = device->frame_bytes();
  CHECK_EQUAL(frame & (frame - 1), 0u);
  CHECK(device->unit_bytes() % page_bytes == 0);
  CHECK_EQUAL(frame % device->unit_bytes(), 0u);
  CHECK_EQUAL(device->region().address % frame, 0u);
  CHECK(device->region().bytes >= 256 * frame);
  CHECK(!readable(device->region().address));
  CHECK(!readable(device->region().end() - 1));
}

TEST_EACH(device, committed_memory_reads_as_zeros_and_can_be_written, all_devices()) {
  const auto device = kind.make();
  for (const Span span : spans(*device)) {
    device->commit(span);
    CHECK(fresh(*device, span));
    fill(span.address, span.bytes, 1);
    CHECK(holds(span.address, span.bytes, 1));
    CHECK(!readable(span.end()));
    CHECK(!readable(span.address - 1));
  }
}

TEST_EACH(device, committing_again_keeps_what_is_there, all_devices()) {
  const auto device = kind.make();
  for (const Span span : spans(*device)) {
    const std::size_t unit = device->unit_bytes();
    device->commit({span.address, unit});
    fill(span.address, unit, 2);
    device->commit(span);
    CHECK(holds(span.address, unit, 2));
    CHECK(fresh(*device, {span.address + unit, span.bytes - unit}));
  }
}

TEST_EACH(device, decommitted_memory_is_closed_and_comes_back_as_zeros, all_devices()) {
  const auto device = kind.make();
  for (const Span span : spans(*device)) {
    device->commit(span);
    fill(span.address, span.bytes, 3);
    device->decommit(span, {});
    CHECK(!readable(span.address));
    CHECK(!readable(span.end() - 1));
    device->commit(span);
    CHECK(fresh(*device, span));
  }
}

TEST_EACH(device, moved_memory_keeps_its_bytes_and_leaves_nothing_behind, all_devices()) {
  const auto device = kind.make();
  for (const Span from : spans(*device)) {
    const Span to = elsewhere(*device, from);
    device->commit(from);
    fill(from.address, from.bytes, 4);
    device->move(from.address, to.address, from.bytes, {});
    device->commit(to);
    CHECK(holds(to.address, to.bytes, 4));
    CHECK(writable(to.address));
    device->commit(from);
    CHECK(fresh(*device, from));
    fill(from.address, from.bytes, 5);
    CHECK(holds(to.address, to.bytes, 4));
  }
}

TEST_EACH(device, a_move_replaces_what_was_there, all_devices()) {
  const auto device = kind.make();
  for (const Span from : spans(*device)) {
    const Span to = elsewhere(*device, from);
    device->commit(from);
    device->commit(to);
    fill(from.address, from.bytes, 5);
    fill(to.address, to.bytes, 6);
    device->move(from.address, to.address, from.bytes, {});
    device->commit(to);
    CHECK(holds(to.address, to.bytes, 5));
  }
}

TEST_EACH(device, a_part_can_be_moved_and_the_rest_stays, all_devices()) {
  const auto device = kind.make();
  // Where memory has large units, a frame moves as a whole or is lost as one.
  const std::size_t kept =
      device->unit_bytes() == page_bytes ? 3 * page_bytes : device->frame_bytes();
  for (const Span span : spans(*device)) {
    if (span.bytes <= kept) continue;
    const Span rest{span.address + kept, span.bytes - kept};
    const Span to = elsewhere(*device, rest);
    device->commit(span);
    fill(span.address, kept, 7);
    fill(rest.address, rest.bytes, 8);
    device->move(rest.address, to.address, rest.bytes, {});
    CHECK(holds(span.address, kept, 7));
    device->commit(to);
    CHECK(holds(to.address, to.bytes, 8));
  }
}

TEST_EACH(device, memory_put_together_from_pieces_moves_as_one, all_devices()) {
  const auto device = kind.make();
  for (const Span span : spans(*device)) {
    // Pieces that come from different places, in the wrong order.
    const std::size_t piece = std::max(4 * page_bytes, device->unit_bytes());
    Address source = elsewhere(*device, span).address;
    std::size_t n = 0;
    for (std::size_t at = 0; at + piece <= span.bytes && n < 24; at += piece, ++n) {
      const Address from = source + (n % 2 == 0 ? n + 1 : n - 1) * piece;
      device->commit({from, piece});
      fill(from, piece, 100 + n);
      device->move(from, span.address + at, piece, {});
    }
    device->commit(span);
    const Address to = elsewhere(*device, elsewhere(*device, span)).address;
    device->move(span.address, to, span.bytes, {});
    device->commit({to, span.bytes});
    for (std::size_t i = 0; i < n; ++i) CHECK(holds(to + i * piece, piece, 100 + i));
  }
}

TEST_EACH(device, closed_memory_keeps_its_bytes_also_when_moved, all_devices()) {
  const auto device = kind.make();
  if (!device->sees_touches()) return;  // it closes nothing that has memory
  for (const Span span : spans(*device)) {
    device->commit(span);
    fill(span.address, span.bytes, 9);
    device->protect(span, Access::none);
    CHECK(!readable(span.address));
    const Span to = elsewhere(*device, span);
    device->move(span.address, to.address, span.bytes, {});
    CHECK(!readable(to.address));
    device->commit(to);
    CHECK(holds(to.address, to.bytes, 9));
    device->protect(to, Access::none);
    device->protect(to, Access::read);
    CHECK(holds(to.address, to.bytes, 9));
    device->protect(to, Access::read_write);
    CHECK(writable(to.address));
  }
}

TEST_EACH(device, a_device_that_sees_writes_stops_them, all_devices()) {
  const auto device = kind.make();
  for (const Span span : spans(*device)) {
    device->commit(span);
    device->protect(span, Access::read);
    CHECK(readable(span.address));
    CHECK_EQUAL(writable(span.address), !device->sees_writes());
    device->protect(span, Access::read_write);
    CHECK(writable(span.address));
  }
}

TEST_EACH(device, a_block_is_filled_behind_its_closed_addresses, all_devices()) {
  const auto device = kind.make();
  for (const Span block : spans(*device)) {
    const Span staging = elsewhere(*device, block);
    device->commit(staging);
    const Address to = device->begin_fill(staging, block);
    fill(to, block.bytes, 10);
    if (device->sees_writes()) CHECK(!readable(block.address));
    device->finish_fill(staging, block);
    device->protect(block, Access::read_write);
    CHECK(holds(block.address, block.bytes, 10));
    device->commit(staging);
    CHECK(fresh(*device, staging));
    fill(staging.address, staging.bytes, 11);
    CHECK(holds(block.address, block.bytes, 10));
  }
}

TEST_EACH(device, a_watch_ends_with_memory, all_devices()) {
  const auto device = kind.make();
  for (const Span span : spans(*device)) {
    const Span parked = elsewhere(*device, span);
    const auto empty_and_watch = [&] {
      device->commit(span);
      fill(span.address, span.bytes, 12);
      device->protect(span, Access::none);
      device->move(span.address, parked.address, span.bytes, {});
      device->watch(span);
    };
    empty_and_watch();
    device->commit(span);
    CHECK(fresh(*device, span));
    empty_and_watch();
    device->commit(parked);
    device->move(parked.address, span.address, span.bytes, {});
    device->commit(span);
    CHECK(holds(span.address, span.bytes, 12));
    empty_and_watch();
    device->protect(span, Access::none);
    device->tidy();
    CHECK(!readable(span.address));
  }
}

TEST_EACH(device, several_threads_work_on_different_spans_at_once, all_devices()) {
  const auto device = kind.make();
  const std::size_t frame = device->frame_bytes();
  const auto work = [&](std::size_t n) {
    const Span a{device->region().address + (16 + 8 * n) * frame, small_bytes(*device) * (n + 1)};
    const Span b{a.address + 4 * frame, a.bytes};
    for (int round = 0; round < 50; ++round) {
      device->commit(a);
      fill(a.address, a.bytes, n);
      device->move(a.address, b.address, a.bytes, {});
      device->commit(b);
      CHECK(holds(b.address, b.bytes, n));
      device->decommit(b, {});
    }
  };
  std::vector<std::unique_ptr<Task>> tasks;
  for (std::size_t n = 0; n < 4; ++n) {
    tasks.push_back(std::make_unique<Task>([&work, n] { work(n); }));
  }
  for (const auto& task : tasks) task->join();
}
