// Engine over a device whose work is queued: an op begins as soon as its blocks are on their way,
// and what it does comes after them.
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "core/engine.h"
#include "core/errors.h"
#include "cuda/cuda_device.h"
#include "host/host_device.h"
#include "host/pinned_store.h"
#include "support/blind_device.h"
#include "support/fake_cuda.h"
#include "support/forwarding.h"
#include "support/gate.h"
#include "support/memory_store.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t block_bytes = min_block_bytes;
constexpr Fence copies = Fence{7} << fence_stream_shift;

class QueuingDevice : public BlindDevice {
 public:
  using BlindDevice::BlindDevice;
  bool sees_touches() const override { return touches; }
  void order(Fence fence) override {
    if (order_fails) throw DeviceError("injected", 1);
    if (fence >= copies) ordered_after = fence;
  }

  bool touches = false;
  bool order_fails = false;
  std::atomic<Fence> ordered_after{0};
};

// A copy in is queued when `queues` lets it, and has ended when `ends` does.
class QueuingStore : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  void read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                   const Queued& queued) override {
    queues.pass();
    queued(copies | ++given);
    ends.pass();
    if (fails) throw StoreError("injected", 1);
    ForwardingStore::read(slot, offset, to, bytes);
  }

  Gate queues, ends;
  bool fails = false;
  std::atomic<Fence> given{0};
};

struct Bench {
  QueuingDevice* device;
  QueuingStore* store;
  std::unique_ptr<Engine> engine;
  Address block = 0;

  explicit Bench(std::size_t chunk_bytes = block_bytes, bool touches = false) {
    auto queuing =
        std::make_unique<QueuingDevice>(std::make_unique<HostDevice>(std::size_t{1} << 30));
    queuing->touches = touches;
    device = queuing.get();
    auto queue = std::make_unique<QueuingStore>(std::make_unique<MemoryStore>(64 * block_bytes));
    store = queue.get();
    EngineOptions options;
    options.budget_bytes = 8 * block_bytes;
    options.workers = 2;
    options.chunk_bytes = chunk_bytes;
    engine = std::make_unique<Engine>(std::move(queuing), std::move(queue),
                                      std::make_unique<LeastRecentlyUsed>(), options);
    block = engine->allocate(block_bytes);
    std::memset(reinterpret_cast<void*>(block), 42, block_bytes);
    engine->offer(std::vector{block});
    engine->wait(engine->swap_out(block));
    store->ends.close();
  }
  ~Bench() {
    store->ends.open();  // a failed test may have left it closed
    engine->check_invariants();
  }

  State state() const { return engine->block(block)->state; }
  void begin_op() { engine->begin_op("op", std::vector{block}); }
  void arrive() {
    store->ends.open();
    engine->drain();
    engine->check_invariants();
  }
};

}  // namespace

TEST(arrivals, an_op_begins_before_its_bytes_are_there_and_is_ordered_after_them) {
  Bench bench;
  bench.begin_op();
  CHECK_EQUAL(name(bench.state()), std::string("filling"));
  CHECK_EQUAL(bench.device->ordered_after, copies | 1);
  bench.engine->check_invariants();
  bench.engine->end_op();
  bench.arrive();
  CHECK_EQUAL(name(bench.state()), std::string("resident"));
  CHECK_EQUAL(*reinterpret_cast<unsigned char*>(bench.block), 42);
}

TEST(arrivals, an_op_waits_until_the_last_chunk_is_queued) {
  Bench bench(block_bytes / 2);
  bench.store->queues.close();
  Task op([&] {
    bench.begin_op();
    bench.engine->end_op();
  });
  bench.store->queues.await_waiting(2);
  bench.store->queues.let_pass(1);
  bench.store->ends.await_waiting(1);
  CHECK(!op.done());
  CHECK_EQUAL(bench.device->ordered_after, 0u);
  bench.store->queues.open();
  op.join();
  CHECK_EQUAL(bench.device->ordered_after, copies | 2);
  bench.arrive();
}

TEST(arrivals, where_touches_are_seen_an_op_waits_for_the_bytes) {
  Bench bench(block_bytes, true);
  Task op([&] {
    bench.begin_op();
    bench.engine->end_op();
  });
  bench.store->ends.await_waiting(1);
  CHECK(!op.done());
  bench.store->ends.open();
  op.join();
  CHECK_EQUAL(bench.device->ordered_after, 0u);
}

TEST(arrivals, who_asks_for_a_block_by_name_is_told_when_its_bytes_are_there) {
  Bench bench;
  bench.begin_op();
  const Ticket ticket = bench.engine->swap_in(bench.block);
  CHECK(!bench.engine->done(ticket));
  bench.engine->end_op();
  Task pin([&] { bench.engine->pin(bench.block); });
  bench.store->ends.await_waiting(1);
  CHECK(!pin.done());
  bench.store->ends.open();
  pin.join();
  CHECK(bench.engine->done(ticket));
  bench.engine->unpin(bench.block);
}

TEST(arrivals, a_block_may_be_freed_on_its_way) {
  Bench bench;
  bench.begin_op();
  bench.engine->free(bench.block);
  bench.engine->end_op();
  bench.arrive();
  CHECK_EQUAL(bench.engine->stats().live_bytes, 0u);
  CHECK_EQUAL(bench.store->used_bytes(), 0u);
}

TEST(arrivals, an_op_that_cannot_be_ordered_is_not_opened) {
  Bench bench;
  bench.device->order_fails = true;
  CHECK_THROWS(DeviceError, bench.begin_op());
  CHECK_EQUAL(bench.engine->op_depth(), 0u);
  bench.device->order_fails = false;
  bench.arrive();
  bench.begin_op();
  CHECK_EQUAL(*reinterpret_cast<unsigned char*>(bench.block), 42);
  bench.engine->end_op();
}

TEST(arrivals, a_copy_that_fails_after_it_was_queued_leaves_the_bytes_in_the_store) {
  Bench bench;
  bench.store->fails = true;
  bench.begin_op();
  bench.arrive();
  CHECK_EQUAL(name(bench.state()), std::string("out"));
  bench.engine->end_op();
  bench.engine->check_invariants();
  bench.store->fails = false;
  bench.begin_op();
  bench.engine->drain();
  CHECK_EQUAL(*reinterpret_cast<unsigned char*>(bench.block), 42);
  bench.engine->end_op();
}

TEST(arrivals, what_is_to_leave_after_its_op_leaves_once_it_is_there) {
  Bench bench;
  const PlanBlock kept{block_bytes,   bench.block,   bench.engine->block(bench.block)->id,
                       no_plan_block, no_plan_block, 0};
  bench.engine->set_plan({{kept}, {}, {{0, {}, {0}, 0}, {0, {}, {}, 0}}},
                         std::vector<std::string>{"op", "next"});
  bench.engine->begin_iteration();
  bench.engine->follow_plan();
  bench.begin_op();
  bench.engine->end_op();  // the host is ahead: the op has not run
  CHECK_EQUAL(name(bench.state()), std::string("filling"));
  bench.arrive();
  CHECK_EQUAL(name(bench.state()), std::string("out"));
}

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

// Copies in are queued on the device, and nobody waits for them before `ends` is open.
class UnawaitedStore : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  void read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                   const Queued& queued) override {
    inner_->read_queued(slot, offset, to, bytes, [&](Fence fence) {
      queued(fence);
      ends.pass();
    });
  }

  Gate ends;
};

// A program on the fake driver: one block that was swapped out, and kernels that use it.
struct GpuProgram {
  const cuda::Context context{0};
  FakeStream stream;
  const cuda::CurrentStream current{stream};
  UnawaitedStore* store;
  std::unique_ptr<Engine> engine;
  Address block = 0;

  explicit GpuProgram(std::uint64_t seed) {
    fake_seed(seed);
    auto device = std::make_unique<cuda::CudaDevice>(0);
    auto unawaited =
        std::make_unique<UnawaitedStore>(std::make_unique<PinnedStore>(device->link(), 64 * MiB));
    store = unawaited.get();
    EngineOptions options;
    options.budget_bytes = 16 * MiB;
    options.workers = 4;
    options.chunk_bytes = 2 * MiB;
    engine = std::make_unique<Engine>(std::move(device), std::move(unawaited),
                                      std::make_unique<LeastRecentlyUsed>(), options);
    block = engine->allocate(8 * MiB);
    engine->offer(std::vector{block});
  }
  ~GpuProgram() { store->ends.open(); }  // a failed test may have left it closed

  void op(bool write, double seconds = 0) {
    engine->begin_op("op", std::vector{block});
    const cuda::Context::Scope scope(context);
    const FakeRange range{block, 8 * MiB, write ? 1 : 0};
    cuda::check(fake_launch(stream, "kernel", nullptr, nullptr, &range, 1, seconds), "kernel");
    engine->end_op();
  }
  void swap_out() { engine->wait(engine->swap_out(block)); }
  // An op that begins while the block is on its way.
  void early_op(double seconds = 0) {
    store->ends.close();
    op(false, seconds);
    CHECK_EQUAL(name(engine->block(block)->state), std::string("filling"));
    store->ends.open();
  }
};

}  // namespace

TEST(arrivals, kernels_use_a_block_only_after_it_has_arrived) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const FakeCuda fake;
    {
      GpuProgram program(seed);
      for (int i = 0; i < 4; ++i) {
        program.op(true);
        program.swap_out();
        program.early_op();
      }
    }
    fake.finish();  // with no report of a kernel and a copy that are not in order
  }
}

TEST(arrivals, what_an_op_waits_for_on_the_device_is_recorded_as_its_stall) {
  const FakeCuda fake;
  {
    GpuProgram program(0);
    program.op(true);
    program.swap_out();
    // Of the host's own time, which is real, there is much less, however busy the machine is.
    const FakeRates rates{0.01 * MiB, 0.01 * MiB, 0, 0};  // 800 seconds for the block
    fake_set_rates(&rates);
    program.engine->begin_iteration();
    program.early_op(400);
    program.engine->begin_iteration();
    double begun = 0;
    double stalled = 0;
    double ended = 0;
    for (const RecordItem& item : program.engine->last_iteration().items) {
      if (item.kind == RecordKind::begin_op) begun = item.seconds;
      if (item.kind == RecordKind::stall) stalled = std::max(stalled, item.seconds);
      if (item.kind == RecordKind::end_op) ended = item.seconds;
    }
    CHECK(std::abs(stalled - 800) < 10);
    CHECK(std::abs(ended - begun - stalled - 400) < 10);
  }
  fake.finish();
}
