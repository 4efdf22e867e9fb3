// An engine whose bookkeeping cannot be given memory: std::bad_alloc or success, nothing is lost,
// and what threw has changed nothing.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/blind_device.h"
#include "support/rig.h"
#include "support/scarce_memory.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

// As if each call came from another stream: there is always one more fence to remember.
class ManyStreams : public BlindDevice {
 public:
  using BlindDevice::BlindDevice;

  Fence fence() override {
    const std::uint64_t count = ++count_;
    return (1 + count % 8) << fence_stream_shift | count;
  }
  void wait(Fence) override {}
  void order(Fence) override {}

 private:
  std::atomic<std::uint64_t> count_{0};
};

struct Arrays {
  std::string name;
  Pair pair;
  std::size_t part_bytes;
};

const std::vector<Arrays>& all_arrays() {
  static const std::vector<Arrays> all = [] {
    std::vector<Pair> kinds;
    for (const Pair& pair : pairs()) {
      if (pair.store.name == "memory") kinds.push_back(pair);  // what gets no memory is before it
    }
    const auto many_streams = [make = kinds.front().device.make] {
      return std::make_unique<ManyStreams>(make());
    };
    kinds.push_back({"streams+memory", {"streams", many_streams}, kinds.front().store});
    std::vector<Arrays> product;
    for (const Pair& pair : kinds) {
      product.push_back({pair.name, pair, no_parts});
      product.push_back({pair.name + "/parts", pair, 2 * block_bytes});
    }
    return product;
  }();
  return all;
}

RigOptions small(const Arrays& arrays) {
  RigOptions options;
  options.budget_bytes = 8 * block_bytes;
  options.store_bytes = std::size_t{4} << 20;
  options.workers = 1;
  options.part_bytes = arrays.part_bytes;
  return options;
}

// Makes a call with its first, second, ... allocation failing until none does. It counts the ops
// that it has open.
template <typename Call>
void with_scarce_memory(Rig& rig, Call call) {
  const std::size_t depth = rig.engine().op_depth();
  for (std::uint64_t nth = 1;; ++nth) {
    std::size_t open = 0;
    bool ran_out = false;
    {
      const ScarceMemory scarce(nth);
      try {
        call(open);
      } catch (const std::bad_alloc&) {
      }
      ran_out = scarce.ran_out();
    }
    CHECK_EQUAL(rig.engine().op_depth(), depth + open);
    rig.engine().abort_ops(depth);
    rig.check();
    if (!ran_out) return;
  }
}

void make(Rig& rig, std::size_t bytes) {
  rig.engine().begin_op("make", {});
  Address made = 0;
  with_scarce_memory(rig, [&](std::size_t&) {
    if (made != 0) rig.engine().free(std::exchange(made, 0));
    made = rig.engine().allocate(bytes);
  });
  rig.adopt(made, bytes);
  rig.engine().end_op();
  rig.check();
}

}  // namespace

TEST_EACH(scarce_engine, a_call_that_gets_no_memory_changes_nothing, all_arrays()) {
  Rig rig(kind.pair, small(kind));
  Engine& engine = rig.engine();
  for (std::size_t i = 0; i < 7; ++i) make(rig, (1 + i % 3) * block_bytes);
  const std::vector<Address> live = rig.live();
  const std::array outer{live[0], live[1]};
  const std::array inner{live[2]};
  with_scarce_memory(rig, [&](std::size_t& open) {
    engine.begin_op("outer", outer);
    ++open;
    engine.begin_op("inner", inner);
    ++open;
    engine.end_op(inner);
    --open;
    engine.end_op();
    --open;
  });
  for (const Address block : live) {
    with_scarce_memory(rig, [&](std::size_t&) { engine.swap_out(block); });
  }
  engine.drain();
  for (const Address block : live) {
    with_scarce_memory(rig, [&](std::size_t&) { engine.swap_in(block); });
    engine.drain();
  }
  with_scarce_memory(rig, [&](std::size_t&) { engine.prefetch(live); });
  for (const Address block : live) {
    bool pinned = false;
    with_scarce_memory(rig, [&](std::size_t&) {
      if (!pinned) engine.pin(block);
      pinned = true;
    });
    with_scarce_memory(rig, [&](std::size_t&) {
      if (pinned) engine.unpin(block);
      pinned = false;
    });
  }
  with_scarce_memory(rig, [&](std::size_t&) { engine.offer(outer); });
  with_scarce_memory(rig, [&](std::size_t&) { engine.withdraw(outer); });
  engine.offer(outer);
  with_scarce_memory(rig, [&](std::size_t&) { engine.trim(); });
  for (const Address block : {live[2], live[3]}) {
    bool freed = false;
    with_scarce_memory(rig, [&](std::size_t&) {
      if (!freed) engine.free(block);
      freed = true;
    });
    rig.forget(block);
  }
  make(rig, 5 * block_bytes);
  rig.verify_all();
  rig.finish();
}

namespace {

// Whoever makes the nth call gets no memory for what it does next, up to its next call.
class ScarceWorkers : public ForwardingStore {
 public:
  ScarceWorkers(std::unique_ptr<Store> inner, std::size_t nth)
      : ForwardingStore(std::move(inner)), left_(nth) {}
  Slot reserve(std::size_t bytes) override {
    const Call call(*this);
    return inner_->reserve(bytes);
  }
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    const Call call(*this);
    inner_->write(slot, offset, from, bytes);
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    const Call call(*this);
    inner_->read(slot, offset, to, bytes);
  }
  // From here on there is memory again, for each worker from its next call on. Returns whether the
  // nth call came.
  bool repair() { return left_.exchange(0) == 0; }

 private:
  struct Call {
    explicit Call(ScarceWorkers& store) : store_(store) { scarce().reset(); }
    ~Call() {
      if (store_.left_ > 0 && --store_.left_ == 0) {
        scarce().emplace(1);
      }
    }
    static std::optional<ScarceMemory>& scarce() {
      static thread_local std::optional<ScarceMemory> one;
      return one;
    }
    ScarceWorkers& store_;
  };

  std::atomic<std::size_t> left_;
};

// A call may get no memory here, too: from a copy whose worker got none.
template <typename Call>
void attempt(Rig& rig, Call call) {
  try {
    call();
  } catch (const std::bad_alloc&) {
    rig.engine().abort_ops(0);
  }
  rig.check();
}

}  // namespace

TEST_EACH(scarce_engine, a_worker_that_gets_no_memory_loses_nothing, all_arrays()) {
  for (std::size_t nth = 1;; ++nth) {
    ScarceWorkers* workers = nullptr;
    Rig rig(kind.pair, small(kind), [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
      auto wrapped = std::make_unique<ScarceWorkers>(std::move(store), nth);
      workers = wrapped.get();
      store = std::move(wrapped);
    });
    Engine& engine = rig.engine();
    for (std::size_t i = 0; i < 7; ++i) {
      attempt(rig, [&] { rig.make((1 + i % 3) * block_bytes); });
    }
    const std::vector<Address> live = rig.live();
    for (const Address block : live) attempt(rig, [&] { rig.verify(block); });
    for (const Address block : live) attempt(rig, [&] { engine.wait(engine.swap_out(block)); });
    attempt(rig, [&] { engine.prefetch(live); });
    for (const Address block : live) attempt(rig, [&] { engine.wait(engine.swap_in(block)); });
    engine.drain();
    const bool reached = workers->repair();
    for (const Address block : live) attempt(rig, [&] { rig.verify(block); });
    rig.verify_all();
    rig.finish();
    if (!reached) {
      CHECK(nth > 20);
      return;
    }
  }
}

namespace {

// An iteration of three ops that follows a plan, one of whose calls gets no memory.
struct ScarceIteration {
  Rig& rig;
  Address kept;
  std::size_t call;
  std::uint64_t nth;
  std::size_t calls = 0;
  bool ran_out = false;

  template <typename Call>
  void step(Call step) {
    if (calls++ != call) {
      step();
      return;
    }
    const ScarceMemory scarce(nth);
    try {
      step();
    } catch (...) {
      ran_out = scarce.ran_out();
      throw;
    }
    ran_out = scarce.ran_out();
  }
  void op(const std::string& name, std::span<const Address> touched) {
    step([&] { rig.engine().begin_op(name, touched); });
    step([&] { rig.engine().end_op(); });
  }
  void run() {
    const std::string a = "a";
    const std::string b = "b";
    const std::array touched{kept};
    try {
      step([&] { rig.engine().begin_iteration(); });
      step([&] { rig.engine().follow_plan(); });
      op(a, touched);
      op(b, {});
      op(a, touched);
    } catch (const std::bad_alloc&) {
      rig.engine().abort_ops(0);
    }
    rig.engine().drain();
    rig.check();
    rig.verify_all();
  }
};

}  // namespace

TEST_EACH(scarce_engine, a_plan_that_gets_no_memory_is_left_and_nothing_is_lost, all_arrays()) {
  Rig rig(kind.pair, small(kind));
  Engine& engine = rig.engine();
  const Address kept = rig.make(3 * block_bytes);
  rig.make(2 * block_bytes);
  engine.offer({&kept, 1});
  // It, or its first part, leaves after the first op and is fetched for the third.
  const std::uint64_t id = engine.block(kept)->id;
  const Plan plan{{{block_bytes, kept, id, no_plan_block, no_plan_block, 0}},
                  {},
                  {{0, {}, {0}, 0}, {0, {0}, {}, 0}, {0, {}, {}, 0}}};
  const std::vector<std::string> names{"a", "b", "a"};
  for (std::size_t call = 0;; ++call) {
    for (std::uint64_t nth = 1;; ++nth) {
      engine.set_plan(plan, names);
      ScarceIteration iteration{rig, kept, call, nth};
      iteration.run();
      if (call == iteration.calls) {
        CHECK(call == 8);
        rig.finish();
        return;
      }
      if (!iteration.ran_out) break;
    }
  }
}
