// Prefetch: what is brought ahead of use, and what is said of the rest.
#include <algorithm>
#include <mutex>
#include <set>
#include <vector>

#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

// Remembers which slots it was told of.
class HintedStore : public ForwardingStore {
 public:
  HintedStore(std::unique_ptr<Store> inner, std::vector<std::uint64_t>& hints)
      : ForwardingStore(std::move(inner)), hints_(hints) {}
  void soon(Slot slot) noexcept override { hints_.push_back(slot.offset); }

 private:
  std::vector<std::uint64_t>& hints_;
};

}  // namespace

TEST_EACH(prefetch, brings_blocks_in_order_while_memory_can_be_had, pairs()) {
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 12);
  swap_out(rig, blocks);
  const std::vector<Address> wanted(blocks.begin(), blocks.begin() + 5);
  CHECK_EQUAL(rig.engine().prefetch(wanted), 5u);
  rig.engine().drain();
  for (const Address block : wanted) CHECK(accessible(rig.state(block)));
  rig.verify_all();
  rig.finish();
}

TEST_EACH(prefetch, does_not_evict_what_it_has_just_brought, pairs()) {
  Rig rig(kind, budget_of(2));
  const auto blocks = make(rig, 4);
  swap_out(rig, blocks);
  CHECK_EQUAL(rig.engine().prefetch({blocks.data(), 1}), 1u);
  rig.engine().drain();
  const std::size_t coming = rig.engine().prefetch(blocks);
  rig.engine().drain();
  CHECK_EQUAL(coming, 2u);
  CHECK(accessible(rig.state(blocks[0])));
  CHECK(accessible(rig.state(blocks[1])));
  rig.verify_all();
  rig.finish();
}

TEST_EACH(prefetch, never_waits, pairs()) {
  // Whatever is under way stands still.
  Rig rig(kind, budget_of(8));
  const auto blocks = make(rig, 12);
  rig.engine().drain();
  std::vector<Address> out;
  for (const Address block : blocks) {
    if (is(rig, block, State::out)) out.push_back(block);
  }
  CHECK(out.size() >= 2);
  rig.store().writes.close();
  rig.store().reads.close();
  rig.engine().prefetch(out);
  rig.engine().prefetch(out);
  rig.engine().prefetch(blocks);
  rig.check();
  rig.open_gates();
  rig.engine().drain();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(prefetch, tells_the_store_of_what_has_to_wait_for_memory, pairs()) {
  std::vector<std::uint64_t> hints;
  Rig rig(kind, budget_of(2), [&](std::unique_ptr<Device>&, std::unique_ptr<Store>& store) {
    store = std::make_unique<HintedStore>(std::move(store), hints);
  });
  const auto blocks = make(rig, 5);
  swap_out(rig, blocks);
  CHECK_EQUAL(rig.engine().prefetch({blocks.data(), 2}), 2u);
  CHECK(hints.empty());
  rig.engine().drain();
  CHECK_EQUAL(rig.engine().prefetch(blocks), 2u);
  CHECK_EQUAL(hints.size(), 3u);
  CHECK_EQUAL(std::set(hints.begin(), hints.end()).size(), 3u);
  rig.finish();
}
