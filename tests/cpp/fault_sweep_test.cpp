// The Nth call of the device or the store fails, N = 1, 2, 3, ..., once or for ever, until the
// scenario is through without reaching it. At every N: typed errors or success, no bytes lost, and
// nothing left behind in the end.
#include <cstdio>
#include <string>
#include <vector>

#include "core/errors.h"
#include "support/faulty.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

struct Sweep {
  std::string name;
  Pair pair;
  bool device;    // or the store
  bool for_ever;  // or once
  std::size_t part_bytes;
};

const std::vector<Sweep>& sweeps() {
  static const std::vector<Sweep> all = [] {
    std::vector<Sweep> product;
    for (const Pair& pair : pairs()) {
      if (pair.store.name != "memory") continue;  // what fails is around it
      for (const bool device : {true, false}) {
        for (const bool for_ever : {true, false}) {
          const std::string name =
              pair.name + (device ? "/device" : "/store") + (for_ever ? "/for_ever" : "/once");
          product.push_back({name, pair, device, for_ever, no_parts});
          product.push_back({name + "/parts", pair, device, for_ever, 2 * block_bytes});
        }
      }
    }
    return product;
  }();
  return all;
}

// What fails must do so with a typed error and leave the engine whole.
void attempt(Rig& rig, const std::function<void()>& step) {
  try {
    step();
  } catch (const Error&) {
    rig.engine().abort_ops(0);
  }
  rig.check();
}

// Everything the engine does, with blocks of three sizes. Blocks are written while they are pinned:
// a refused write outside a pin is a touch that cannot be served, which is another test's matter.
void scenario(Rig& rig) {
  Engine& engine = rig.engine();
  const auto write = [&](Address block) {
    attempt(rig, [&] {
      engine.pin(block);
      rig.write_in_open_op(block);
      engine.unpin(block);
    });
  };
  for (int i = 0; i < 7; ++i) {
    attempt(rig, [&] { rig.make(static_cast<std::size_t>(1 + i % 3) * block_bytes); });
  }
  for (const Address block : rig.live()) attempt(rig, [&] { rig.verify(block); });
  for (const Address block : rig.live()) write(block);
  for (const Address block : rig.live()) {
    attempt(rig, [&] { engine.wait(engine.swap_out(block)); });
  }
  attempt(rig, [&] { engine.prefetch(rig.live()); });
  for (const Address block : rig.live()) {
    attempt(rig, [&] { engine.wait(engine.swap_in(block)); });
  }
  const std::vector<Address> live = rig.live();
  if (live.size() > 3) {
    const std::vector<Address> touched(live.begin(), live.begin() + 2);
    attempt(rig, [&] {
      engine.begin_op("outer", touched);
      engine.begin_op("inner", {&live[2], 1});
      engine.end_op({&live[2], 1});
      engine.end_op();
    });
    attempt(rig, [&] { rig.free(live[0]); });
    attempt(rig, [&] { rig.free(live[3]); });
  }
  attempt(rig, [&] { engine.trim(); });
  attempt(rig, [&] { rig.make(5 * block_bytes); });
}

}  // namespace

TEST_EACH(fault_sweep, nothing_is_lost_whichever_call_fails, sweeps()) {
  for (std::size_t nth = 1;; ++nth) {
    Faults faults(nth, kind.for_ever);
    RigOptions options;
    options.budget_bytes = 8 * block_bytes;
    options.store_bytes = std::size_t{4} << 20;
    options.workers = 1;
    options.part_bytes = kind.part_bytes;
    Rig rig(kind.pair, options,
            [&](std::unique_ptr<Device>& device, std::unique_ptr<Store>& store) {
              if (kind.device) {
                device = std::make_unique<FaultyDevice>(std::move(device), faults);
              } else {
                store = std::make_unique<FaultyStore>(std::move(store), faults);
              }
            });
    scenario(rig);
    rig.engine().drain();
    rig.check();
    faults.repair();
    rig.verify_all();
    for (const Address block : rig.live()) rig.rewrite(block);
    rig.verify_all();
    bool zeroed = false;
    const Address fresh = rig.engine().allocate(3 * block_bytes, &zeroed);
    if (zeroed) CHECK(all_zero(fresh, 3 * block_bytes));
    rig.engine().free(fresh);
    rig.finish();
    if (!faults.reached()) {
      CHECK(nth > 20);
      break;
    }
  }
}
