// Engine over a device whose work is queued: what waits for which fence, and what is never taken
// because nobody would see a touch of it.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/engine.h"
#include "core/errors.h"
#include "host/host_device.h"
#include "support/blind_device.h"
#include "support/forwarding.h"
#include "support/gated.h"
#include "support/memory_store.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t block_bytes = min_block_bytes;

// What was called, in order.
class Log {
 public:
  void add(const std::string& what) {
    std::lock_guard lock(mutex_);
    lines_.push_back(what);
  }
  // Its place, or the number of lines.
  std::size_t place(const std::string& what) {
    std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::find(lines_.begin(), lines_.end(), what) - lines_.begin());
  }
  bool has(const std::string& what) {
    const std::size_t at = place(what);
    std::lock_guard lock(mutex_);
    return at < lines_.size();
  }
  void clear() {
    std::lock_guard lock(mutex_);
    lines_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

thread_local Fence current_stream = 1;

// Every fence it gives is a new one of the current stream.
class FencedDevice : public BlindDevice {
 public:
  FencedDevice(std::unique_ptr<Device> inner, Log& log)
      : BlindDevice(std::move(inner)), log_(log) {}

  bool sees_touches() const override { return touches; }
  Fence fence() override {
    const Fence fence = current_stream << fence_stream_shift | ++given;
    last = fence;
    return fence;
  }
  void wait(Fence fence) override {
    waits.pass();
    if (wait_fails) throw DeviceError("injected", 1);
    log_.add("wait " + std::to_string(fence));
  }
  void order(Fence fence) override {
    if (order_fails) throw DeviceError("injected", 1);
    log_.add("order " + std::to_string(fence));
  }
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override {
    for (const Fence fence : last_use) log_.add("move after " + std::to_string(fence));
    BlindDevice::move(from, to, bytes, last_use);
  }

  Gate waits;
  bool touches = true;
  bool order_fails = false;
  std::atomic<bool> wait_fails{false};
  std::atomic<Fence> given{0};
  std::atomic<Fence> last{0};

 private:
  Log& log_;
};

class LoggedStore : public ForwardingStore {
 public:
  LoggedStore(std::unique_ptr<Store> inner, Log& log)
      : ForwardingStore(std::move(inner)), log_(log) {}
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    log_.add("write");
    ForwardingStore::write(slot, offset, from, bytes);
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    log_.add("read");
    ForwardingStore::read(slot, offset, to, bytes);
  }

 private:
  Log& log_;
};

struct Bench {
  Log log;
  FencedDevice* device;
  std::unique_ptr<Engine> engine;

  explicit Bench(std::size_t budget_bytes, bool touches = true) {
    auto fenced =
        std::make_unique<FencedDevice>(std::make_unique<HostDevice>(std::size_t{1} << 30), log);
    fenced->touches = touches;
    device = fenced.get();
    EngineOptions options;
    options.budget_bytes = budget_bytes;
    options.workers = 2;
    engine = std::make_unique<Engine>(
        std::move(fenced),
        std::make_unique<LoggedStore>(std::make_unique<MemoryStore>(std::size_t{64} << 20), log),
        std::make_unique<LeastRecentlyUsed>(), options);
  }
  ~Bench() {
    device->waits.open();  // a test that fails may have left it closed
    engine->check_invariants();
  }

  // An op that touches these blocks; returns the fence of its end.
  Fence op(std::vector<Address> touched) {
    engine->begin_op("op", touched);
    engine->end_op();
    return device->last;
  }
  std::string line(const char* what, Fence fence) { return what + std::to_string(fence); }
};

}  // namespace

TEST(fences, a_copy_out_waits_for_the_last_op_that_used_the_block) {
  Bench bench(64 * block_bytes);
  const Address block = bench.engine->allocate(block_bytes);
  bench.op({block});
  const Fence last = bench.op({block});
  bench.engine->swap_out(block);  // with a fence of its own, on the same stream: a later one
  bench.engine->drain();
  CHECK(bench.device->last > last);
  const std::string wait = bench.line("wait ", bench.device->last);
  CHECK(bench.log.has(wait));
  CHECK(bench.log.place(wait) < bench.log.place("write"));
}

TEST(fences, a_copy_out_waits_for_every_stream_that_used_the_block) {
  Bench bench(64 * block_bytes);
  const Address block = bench.engine->allocate(block_bytes);
  current_stream = 2;
  const Fence other = bench.op({block});
  current_stream = 1;
  bench.op({block});
  bench.engine->swap_out(block);
  bench.engine->drain();
  CHECK(bench.log.place(bench.line("wait ", other)) < bench.log.place("write"));
  CHECK(bench.log.place(bench.line("wait ", bench.device->last)) < bench.log.place("write"));
}

TEST(fences, an_op_begins_when_nothing_is_copied_any_more_of_what_it_may_write) {
  auto gated = std::make_unique<GatedStore>(std::make_unique<MemoryStore>(std::size_t{1} << 20));
  GatedStore& store = *gated;
  EngineOptions options;
  options.budget_bytes = 4 * block_bytes;
  options.workers = 2;
  options.chunk_bytes = block_bytes / 8;
  Engine engine(std::make_unique<BlindDevice>(std::make_unique<HostDevice>(std::size_t{1} << 30)),
                std::move(gated), std::make_unique<LeastRecentlyUsed>(), options);
  const Address block = engine.allocate(block_bytes);
  store.writes.close();
  engine.swap_out(block);
  store.writes.await_waiting(2);
  std::size_t copied_meanwhile = 0;
  Task op([&] {
    engine.begin_op("op", std::vector{block});
    copied_meanwhile = store.writes.waiting();
    engine.end_op();
  });
  while (!op.done() && engine.stats().held_bytes == 0) std::this_thread::yield();
  store.writes.open();
  op.join();
  engine.drain();
  CHECK_EQUAL(copied_meanwhile, 0u);
  CHECK_EQUAL(store.calls().size(), 2u);
  CHECK_EQUAL(name(engine.block(block)->state), std::string("resident"));
}

TEST(fences, reused_memory_comes_after_what_its_last_owner_did) {
  Bench bench(64 * block_bytes);
  const Address first = bench.engine->allocate(block_bytes);
  bench.engine->free(first);
  const Fence freed = bench.device->last;
  CHECK_EQUAL(bench.engine->allocate(block_bytes), first);
  CHECK(bench.log.has(bench.line("order ", freed)));
}

TEST(fences, memory_that_moves_takes_its_fence_along) {
  Bench bench(8 * block_bytes);
  const Address large = bench.engine->allocate(8 * block_bytes);
  bench.engine->free(large);
  const Fence freed = bench.device->last;
  bench.engine->allocate(3 * block_bytes);
  CHECK(bench.log.has(bench.line("move after ", freed)));
  CHECK(bench.log.has(bench.line("order ", freed)));
  bench.log.clear();
  bench.engine->allocate(5 * block_bytes);  // what was left over, parked meanwhile
  CHECK(bench.log.has(bench.line("order ", freed)));
}

TEST(fences, a_fill_waits_for_what_its_memory_was_used_for) {
  Bench bench(2 * block_bytes);
  const Address out = bench.engine->allocate(block_bytes);
  bench.engine->wait(bench.engine->swap_out(out));
  const Address a = bench.engine->allocate(block_bytes);
  const Address b = bench.engine->allocate(block_bytes);
  bench.engine->free(b);
  const Fence freed = bench.device->last;
  bench.log.clear();
  bench.engine->wait(bench.engine->swap_in(out));
  CHECK(bench.log.place(bench.line("wait ", freed)) < bench.log.place("read"));
  bench.engine->free(a);
}

TEST(fences, what_a_copy_comes_after_is_no_time_of_the_copy) {
  Bench bench(block_bytes);
  Engine& engine = *bench.engine;
  const Address block = engine.allocate(block_bytes);
  bench.device->waits.close();
  engine.swap_out(block);
  bench.device->waits.await_waiting(1);
  CHECK_EQUAL(engine.stats().swap_out_busy_seconds, 0.0);
  bench.device->waits.open();
  engine.drain();
  CHECK(engine.stats().swap_out_busy_seconds > 0);
  engine.free(engine.allocate(block_bytes));  // and a fence with it
  bench.device->waits.close();
  engine.swap_in(block);
  bench.device->waits.await_waiting(1);
  CHECK_EQUAL(engine.stats().swap_in_busy_seconds, 0.0);
  bench.device->waits.open();
  engine.drain();
  CHECK(engine.stats().swap_in_busy_seconds > 0);
}

TEST(fences, a_copy_that_is_not_begun_takes_no_time) {
  Bench bench(block_bytes);
  Engine& engine = *bench.engine;
  const Address block = engine.allocate(block_bytes);
  bench.device->wait_fails = true;
  const Ticket ticket = engine.swap_out(block);
  CHECK_THROWS(DeviceError, engine.wait(ticket));
  engine.drain();
  CHECK_EQUAL(engine.stats().swap_out_busy_seconds, 0.0);
  bench.device->wait_fails = false;
  engine.wait(engine.swap_out(block));
  CHECK(engine.stats().swap_out_busy_seconds > 0);
}

TEST(fences, a_stream_that_cannot_be_ordered_costs_no_budget) {
  Bench bench(64 * block_bytes);
  bench.engine->free(bench.engine->allocate(block_bytes));
  bench.device->order_fails = true;
  CHECK_THROWS(DeviceError, bench.engine->allocate(block_bytes));
  CHECK_EQUAL(bench.engine->stats().live_bytes, 0u);
  bench.device->order_fails = false;
  bench.engine->allocate(block_bytes);
}

TEST(fences, a_swap_out_that_is_asked_for_copies_what_was_written_last) {
  Bench bench(64 * block_bytes);
  const Address block = bench.engine->allocate(block_bytes);
  auto* word = reinterpret_cast<volatile std::uint64_t*>(block);
  *word = 1;
  bench.engine->wait(bench.engine->swap_out(block));
  bench.engine->wait(bench.engine->swap_in(block));
  *word = 2;
  bench.engine->wait(bench.engine->swap_out(block));
  bench.engine->wait(bench.engine->swap_in(block));
  CHECK_EQUAL(*word, 2u);
}

TEST(offers, without_faults_only_what_was_offered_is_swapped_out_for_others) {
  Bench bench(4 * block_bytes, false);
  std::vector<Address> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(bench.engine->allocate(block_bytes));
  try {
    bench.engine->allocate(block_bytes);
    CHECK(false);
  } catch (const OutOfMemory& error) {
    CHECK_EQUAL(error.used_bytes, 4 * block_bytes);
    CHECK_EQUAL(error.needed_bytes, 5 * block_bytes);
  }
  bench.engine->offer(std::vector{blocks[2]});
  bench.engine->allocate(block_bytes);
  CHECK(bench.engine->block(blocks[2])->state == State::out);
  for (const int kept : {0, 1, 3}) {
    CHECK(bench.engine->block(blocks[kept])->state == State::resident);
  }
}

TEST(offers, what_is_withdrawn_is_back_and_stays) {
  Bench bench(4 * block_bytes, false);
  std::vector<Address> blocks;
  for (int i = 0; i < 3; ++i) blocks.push_back(bench.engine->allocate(block_bytes));
  bench.engine->offer(blocks);
  bench.engine->wait(bench.engine->swap_out(blocks[0]));
  bench.engine->withdraw(std::vector{blocks[0]});
  CHECK(bench.engine->block(blocks[0])->state == State::resident);
  const Address large = bench.engine->allocate(3 * block_bytes);
  CHECK(bench.engine->block(blocks[0])->state == State::resident);
  CHECK(bench.engine->block(blocks[1])->state == State::out);
  bench.engine->free(large);
}

TEST(offers, a_new_block_at_an_old_address_is_not_offered) {
  Bench bench(2 * block_bytes, false);
  const Address first = bench.engine->allocate(block_bytes);
  bench.engine->offer(std::vector{first});
  bench.engine->free(first);
  CHECK_EQUAL(bench.engine->allocate(block_bytes), first);
  bench.engine->allocate(block_bytes);
  CHECK_THROWS(OutOfMemory, bench.engine->allocate(block_bytes));
}
