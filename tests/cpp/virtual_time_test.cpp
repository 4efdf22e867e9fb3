// How much of a modelled link the engine uses: the engine, the CUDA device and the pinned store as
// on a GPU, over the fake driver with the rates and costs of an H200, in virtual time. What is
// modelled is the link and the calls that map memory; the engine's own work takes no time here.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "check.h"
#include "core/engine.h"
#include "core/policy.h"
#include "cuda/cuda_device.h"
#include "host/pinned_store.h"
#include "support/fake_cuda.h"
#include "support/one_at_a_time.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr double link_bytes_per_second = 55e9;  // each way
constexpr FakeRates rates{link_bytes_per_second, link_bytes_per_second, 0, 0};
// Mapping a handle takes 40 us, making it accessible included, and unmapping it as long.
constexpr FakeCosts costs{40e-6, 10e-6, 30e-6, 40e-6, 40e-6};

class Swapping {
 public:
  // Twice as many blocks as are in memory at a time.
  Swapping(std::size_t block_bytes, std::size_t count, const EngineOptions& given = {})
      : block_bytes_(block_bytes), count_(count) {
    fake_seed(0);  // measures time
    fake_set_garbage(0);
    auto device = std::make_unique<cuda::CudaDevice>(0);
    auto store = std::make_unique<PinnedStore>(device->link(), 2 * count * block_bytes);
    store->await_growth();
    EngineOptions options = given;
    // A third is room, so that nothing is copied before it is asked for.
    options.budget_bytes = (count + count / 2) * block_bytes;
    engine_ = std::make_unique<Engine>(std::move(device), std::move(store),
                                       std::make_unique<LeastRecentlyUsed>(), options);
    for (std::size_t i = 0; i < 2 * count; ++i) {
      if (i == count) out(first());
      blocks_.push_back(engine_->allocate(block_bytes));
      stream_.mark(blocks_.back(), block_bytes, i + 1);
      stream_.synchronize();
    }
    fake_set_rates(&rates);
    fake_set_costs(&costs);
  }

  std::vector<Address> first() const { return {blocks_.begin(), blocks_.begin() + count_}; }
  std::vector<Address> second() const { return {blocks_.begin() + count_, blocks_.end()}; }

  void out(const std::vector<Address>& blocks) {
    for (const Address block : blocks) engine_->swap_out(block);
    engine_->drain();
  }
  void in(const std::vector<Address>& blocks) {
    for (const Address block : blocks) engine_->swap_in(block);
    engine_->drain();
  }
  void exchange(const std::vector<Address>& out, const std::vector<Address>& in) {
    for (const Address block : out) engine_->swap_out(block);
    for (const Address block : in) engine_->swap_in(block);
    engine_->drain();
  }

  // The share of the link that `body` uses, which copies `count` blocks (each way).
  template <typename Body>
  double share(Body body) {
    const OneAtATime order;
    const Stats before = engine_->stats();
    const double begun_seconds = fake_seconds();
    body();
    const double seconds = fake_seconds() - begun_seconds;
    const Stats after = engine_->stats();
    const std::size_t bytes = std::max(after.swap_out_bytes - before.swap_out_bytes,
                                       after.swap_in_bytes - before.swap_in_bytes);
    CHECK_EQUAL(bytes, count_ * block_bytes_);
    return static_cast<double>(bytes) / seconds / link_bytes_per_second;
  }

  // Every block holds what was written to it.
  void verify() {
    for (const std::vector<Address>& half : {second(), first()}) {
      out(half == first() ? second() : first());
      in(half);
      for (const Address block : half) {
        const auto number = std::find(blocks_.begin(), blocks_.end(), block) - blocks_.begin();
        CHECK(marked(block, block_bytes_, static_cast<std::uint64_t>(number) + 1));
      }
    }
    engine_->check_invariants();
  }

 private:
  const std::size_t block_bytes_;
  const std::size_t count_;
  FakeStream stream_;
  std::vector<Address> blocks_;
  std::unique_ptr<Engine> engine_;
};

struct Shares {
  double out;
  double in;
  double both;
};

Shares measure(std::size_t block_bytes, std::size_t count, const EngineOptions& options = {}) {
  const FakeCuda fake(1, std::size_t{2} << 30);
  Shares shares{};
  {
    Swapping swapping(block_bytes, count, options);
    shares.out = swapping.share([&] { swapping.out(swapping.second()); });
    shares.in = swapping.share([&] { swapping.in(swapping.first()); });
    shares.both = swapping.share([&] { swapping.exchange(swapping.first(), swapping.second()); });
    swapping.verify();
  }
  fake.finish();
  std::printf("%zu MiB blocks, share of the modelled link: out %.3f, in %.3f, both at once %.3f\n",
              block_bytes / MiB, shares.out, shares.in, shares.both);
  return shares;
}

}  // namespace

TEST(virtual_time, blocks_of_a_frame_use_all_of_the_link) {
  const Shares shares = measure(16 * MiB, 16);
  CHECK(shares.out >= 0.97 && shares.out <= 1);
  CHECK(shares.in >= 0.97 && shares.in <= 1);
}

TEST(virtual_time, large_blocks_use_all_of_the_link) {
  const Shares shares = measure(64 * MiB, 6);
  CHECK(shares.out >= 0.97 && shares.out <= 1);
  CHECK(shares.in >= 0.97 && shares.in <= 1);
}

TEST(virtual_time, small_blocks_use_most_of_the_link) {
  const Shares shares = measure(2 * MiB, 64);
  CHECK(shares.out >= 0.80 && shares.out <= 1);
  CHECK(shares.in >= 0.80 && shares.in <= 1);
}

// With one worker nothing is copied while memory is mapped: so the bars above see that.
TEST(virtual_time, an_engine_that_does_one_thing_at_a_time_misses_the_bar) {
  EngineOptions options;
  options.workers = 1;
  const Shares shares = measure(16 * MiB, 8, options);
  CHECK(shares.out < 0.97);
  CHECK(shares.in < 0.97);
  CHECK(shares.both < 0.6);
}
