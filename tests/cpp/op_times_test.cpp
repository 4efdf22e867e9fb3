// How long ops took, where the work they queue runs some time after they have returned: the engine
// over the fake driver, in virtual time.
#include <cmath>
#include <functional>
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

// The host's own time is real. However busy the machine is, it calls an op in less than this, and
// no kernel is so short.
constexpr double host_seconds = 10;

bool about(double seconds, double expected) {
  return std::abs(seconds - expected) < host_seconds;
}

struct Program {
  const cuda::Context context{0};
  FakeStream stream;
  const cuda::CurrentStream current{stream};
  std::unique_ptr<Engine> engine;

  Program() {
    fake_seed(0);
    auto device = std::make_unique<cuda::CudaDevice>(0);
    auto store = std::make_unique<PinnedStore>(device->link(), 4 * MiB);
    EngineOptions options;
    options.budget_bytes = 4 * MiB;
    engine = std::make_unique<Engine>(std::move(device), std::move(store),
                                      std::make_unique<LeastRecentlyUsed>(), options);
  }

  void kernel(double seconds) {
    const cuda::Context::Scope scope(context);
    cuda::check(
        fake_launch(stream, "kernel", [](void*) {}, nullptr, nullptr, 0, seconds), "kernel");
  }
  void op(double seconds) {
    engine->begin_op("op", {});
    kernel(seconds);
    engine->end_op();
  }
  // When ops began and ended.
  std::vector<double> times() {
    engine->begin_iteration();
    std::vector<double> found;
    for (const RecordItem& item : engine->last_iteration().items) {
      if (item.kind == RecordKind::begin_op || item.kind == RecordKind::end_op) {
        found.push_back(item.seconds);
      }
    }
    return found;
  }
};

// When the ops of an iteration that runs `body` began and ended.
std::vector<double> times_of(const std::function<void(Program&)>& body) {
  const FakeCuda fake;
  std::vector<double> times;
  {
    Program program;
    program.kernel(800);  // is not over when the iteration begins
    program.engine->begin_iteration();
    body(program);
    times = program.times();
  }
  fake.finish();
  return times;
}

}  // namespace

TEST(op_times, ops_and_what_is_between_them_take_what_they_take_on_the_device) {
  const std::vector<double> times = times_of([](Program& program) {
    program.op(400);
    program.kernel(100);
    program.op(200);
  });
  CHECK_EQUAL(times.size(), 4u);
  CHECK(about(times[1] - times[0], 400));
  CHECK(about(times[2] - times[1], 100));
  CHECK(about(times[3] - times[2], 200));
}

TEST(op_times, an_op_inside_an_op_is_part_of_it) {
  const std::vector<double> times = times_of([](Program& program) {
    program.engine->begin_op("outer", {});
    program.op(400);
    program.kernel(200);
    program.engine->end_op();
  });
  CHECK_EQUAL(times.size(), 2u);
  CHECK(about(times[1] - times[0], 600));
}

TEST(op_times, without_the_devices_times_for_all_of_them_the_hosts_are_kept) {
  const std::vector<double> times = times_of([](Program& program) {
    program.op(400);
    program.engine->begin_op("op", {});
    program.kernel(200);
    program.engine->abort_ops(0);
  });
  CHECK_EQUAL(times.size(), 4u);
  CHECK(about(times[3] - times[0], 0));
}

TEST(op_times, an_event_that_cannot_be_had_fails_no_op) {
  const std::vector<double> times = times_of([](Program& program) {
    program.op(400);
    fake_fail("cuEventCreate", 1, 2, 0);  // of the time at which the next op begins
    program.op(200);
  });
  CHECK_EQUAL(times.size(), 4u);
  CHECK(about(times[3] - times[0], 0));
}
