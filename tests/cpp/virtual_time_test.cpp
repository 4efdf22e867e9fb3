// How much of a modelled link the engine uses: the engine, the CUDA device and the pinned store as
// on a GPU, over the fake driver with the rates and costs of an H200, in virtual time. What is
// modelled is the link, the calls that map memory and queue copies, one at a time, and how late
// threads wake; the engine's own work takes no time here.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "check.h"
#include "core/engine.h"
#include "core/policy.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_link.h"
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
constexpr FakeDelays no_delays{0, 0};
constexpr FakeDelays usual_delays{5e-6, 50e-6};

class Swapping {
 public:
  // Twice as many blocks as are in memory at a time.
  Swapping(std::size_t block_bytes, std::size_t count, const FakeDelays& delays,
           std::size_t workers)
      : block_bytes_(block_bytes), count_(count) {
    fake_seed(0);  // measures time
    fake_set_garbage(0);
    auto device = std::make_unique<cuda::CudaDevice>(0);
    auto store = std::make_unique<PinnedStore>(device->link(), 2 * count * block_bytes);
    store->await_growth();
    // A third is room, so that nothing is copied before it is asked for.
    const EngineOptions options{.budget_bytes = (count + count / 2) * block_bytes,
                                .workers = workers,
                                .chunk_bytes = cuda::link_chunk_bytes};
    engine_ = std::make_unique<Engine>(std::move(device), std::move(store),
                                       std::make_unique<LeastRecentlyUsed>(), options);
    for (std::size_t i = 0; i < 2 * count; ++i) {
      if (i == count) out(first());
      blocks_.push_back(engine_->allocate(block_bytes));
      stream_.mark(blocks_.back(), block_bytes, i + 1);
      stream_.synchronize();
    }
    engine_->drain();
    fake_set_rates(&rates);
    fake_set_costs(&costs);
    fake_set_delays(&delays);
  }

  std::vector<Address> first() const { return {blocks_.begin(), blocks_.begin() + count_}; }
  std::vector<Address> second() const { return {blocks_.begin() + count_, blocks_.end()}; }

  void out(const std::vector<Address>& blocks) { exchange(blocks, {}); }
  void in(const std::vector<Address>& blocks) { exchange({}, blocks); }
  // Until the last of them is unmapped, too.
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

Shares measure(std::size_t block_bytes, std::size_t count, const FakeDelays& delays = usual_delays,
               std::size_t workers = cuda::link_workers) {
  const FakeCuda fake(1, std::size_t{4} << 30);
  Shares shares{};
  {
    Swapping swapping(block_bytes, count, delays, workers);
    shares.out = swapping.share([&] { swapping.out(swapping.second()); });
    shares.in = swapping.share([&] { swapping.in(swapping.first()); });
    // At first memory is new.
    for (int turn = 0; turn < 3; ++turn) {
      const bool even = turn % 2 == 0;
      shares.both = swapping.share([&] {
        swapping.exchange(even ? swapping.first() : swapping.second(),
                          even ? swapping.second() : swapping.first());
      });
    }
    swapping.verify();
  }
  fake.finish();
  std::printf(
      "%zu MiB blocks, %.0f us until a thread wakes, %zu workers: share of the modelled link: out "
      "%.3f, in %.3f, both at once %.3f\n",
      block_bytes / MiB, delays.wake * 1e6, workers, shares.out, shares.in, shares.both);
  return shares;
}

// At least so much, and no more than there is.
bool is_share(double share, double least) {
  return share >= least && share <= 1;
}

void use_all_of_the_link(const Shares& shares) {
  CHECK(is_share(shares.out, 0.97));
  CHECK(is_share(shares.in, 0.97));
  CHECK(is_share(shares.both, 0.95));
}

}  // namespace

TEST(virtual_time, blocks_of_a_frame_use_all_of_the_link) {
  use_all_of_the_link(measure(16 * MiB, 16));
}

TEST(virtual_time, large_blocks_use_all_of_the_link) {
  use_all_of_the_link(measure(64 * MiB, 6));
}

// Of two blocks of 16 handles the second is unmapped while nothing is copied: out misses the bar.
TEST(virtual_time, parts_of_arrays_use_all_of_the_link_on_their_way_in) {
  const Shares shares = measure(256 * MiB, 2);
  CHECK(is_share(shares.in, 0.97));
  CHECK(is_share(shares.out, 0.93));
  CHECK(is_share(shares.both, 0.93));
}

TEST(virtual_time, threads_that_wake_at_once_use_all_of_the_link) {
  use_all_of_the_link(measure(16 * MiB, 16, no_delays));
}

TEST(virtual_time, small_blocks_use_most_of_the_link) {
  for (const FakeDelays& delays : {no_delays, usual_delays}) {
    const Shares shares = measure(2 * MiB, 64, delays);
    CHECK(is_share(shares.out, 0.80));
    CHECK(is_share(shares.in, 0.80));
  }
}

// With one worker nothing is copied while memory is mapped, and with four the link is idle until
// they wake: so the bars above see that.
TEST(virtual_time, an_engine_that_does_few_things_at_a_time_misses_the_bars) {
  const Shares one = measure(16 * MiB, 8, no_delays, 1);
  CHECK(one.out < 0.97);
  CHECK(one.in < 0.97);
  CHECK(one.both < 0.6);
  const Shares four = measure(16 * MiB, 8, usual_delays, 4);
  CHECK(four.both < 0.95);
}
