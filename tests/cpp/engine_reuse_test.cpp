// Engine over a GPU's memory: arrays that come and go get each other's memory in the order of their
// streams, and where that is the null stream alone the driver is not asked.
#include <memory>
#include <vector>

#include "check.h"
#include "core/engine.h"
#include "core/policy.h"
#include "cuda/cuda_device.h"
#include "host/pinned_store.h"
#include "support/fake_cuda.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

struct Program {
  const cuda::Context context{0};
  std::unique_ptr<Engine> engine;

  Program() {
    auto device = std::make_unique<cuda::CudaDevice>(0);
    auto store = std::make_unique<PinnedStore>(device->link(), 64 * MiB);
    engine = std::make_unique<Engine>(std::move(device), std::move(store),
                                      std::make_unique<LeastRecentlyUsed>(),
                                      EngineOptions{.budget_bytes = 64 * MiB});
  }

  // As a program does with its array on a stream: a kernel that writes it.
  void use(cuda::CUstream stream, Address block, std::size_t bytes) const {
    const cuda::Context::Scope scope(context);
    const FakeRange range{block, bytes, 1};
    cuda::check(fake_launch(stream, "kernel", nullptr, nullptr, &range, 1, 0), "kernel");
  }
  Address array(cuda::CUstream stream, std::size_t bytes) const {
    const cuda::CurrentStream current(stream);
    const Address block = engine->allocate(bytes);
    use(stream, block, bytes);
    return block;
  }
  void free(cuda::CUstream stream, Address block) const {
    const cuda::CurrentStream current(stream);
    engine->free(block);
  }
};

}  // namespace

TEST(reuse, an_array_on_the_null_stream_gets_anothers_memory_without_a_call_of_the_driver) {
  const FakeCuda fake;
  {
    const Program program;
    const Address small_arrays = program.engine->allocate(2 * MiB);
    program.engine->pin(small_arrays);
    for (const std::size_t bytes : {2 * MiB, 16 * MiB, 24 * MiB}) {
      const Address first = program.array(nullptr, bytes);
      program.free(nullptr, first);
      const std::uint64_t asked = fake_calls("*");
      for (int i = 0; i < 10; ++i) {
        CHECK_EQUAL(program.engine->allocate(bytes), first);
        program.engine->free(first);
      }
      CHECK_EQUAL(fake_calls("*"), asked);
    }
  }
  fake.finish();
}

TEST(reuse, whatever_streams_arrays_are_on_memory_changes_hands_in_order) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const FakeCuda fake;
    {
      const Program program;
      FakeStream one;
      FakeStream two;
      fake_seed(seed);
      const std::vector<cuda::CUstream> streams{nullptr, one, nullptr, nullptr, two, one, nullptr};
      for (const std::size_t bytes : {2 * MiB, 16 * MiB, 24 * MiB, 6 * MiB}) {
        for (const cuda::CUstream stream : streams) {
          const Address block = program.array(stream, bytes);
          program.free(stream, block);
        }
      }
      program.engine->check_invariants();
    }
    fake.finish();  // with no report of two kernels that are not in order
  }
}

TEST(reuse, once_something_was_swapped_the_end_of_each_array_is_a_point_of_its_own) {
  const FakeCuda fake;
  {
    const Program program;
    const Address swapped = program.array(nullptr, 2 * MiB);
    const Address freed = program.array(nullptr, 4 * MiB);
    program.engine->wait(program.engine->swap_out(swapped));
    const std::uint64_t recorded = fake_calls("cuEventRecord");
    program.free(nullptr, freed);  // a fill may take the memory, and should not wait for more
    CHECK_EQUAL(fake_calls("cuEventRecord"), recorded + 1);
  }
  fake.finish();
}
