// The fake driver's virtual time.
#include <cmath>
#include <thread>

#include "check.h"
#include "support/fake_gpu.h"

namespace {

using namespace swapmem::cuda;
using swapmem::test::FakeGpu;
using swapmem::test::frame;
using swapmem::test::must;
using swapmem::test::Pinned;

bool about(double a, double b) {
  return std::abs(a - b) < 1e-9;
}

// A link that takes a second for a frame, each way, and half a second within the device.
void slow_link(bool shared) {
  const double rate = static_cast<double>(frame);
  const FakeRates rates{rate, rate, 2 * rate, shared ? 1 : 0};
  fake_set_rates(&rates);
}

TEST(fake_driver, copies_take_the_time_of_the_link) {
  const FakeGpu gpu;
  slow_link(false);
  Pinned host(gpu, 2 * frame);
  const CUdeviceptr at = gpu.memory(2 * frame);
  const CUstream stream = gpu.stream();
  const CUevent start = gpu.record(stream);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 2 * frame, stream), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemcpyDtoDAsync(at, at + frame, frame, stream), CUDA_SUCCESS);
  const CUevent end = gpu.record(stream);
  CHECK(about(fake_seconds(), 0));
  float milliseconds = 0;
  CHECK_EQUAL(gpu.d.cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_NOT_READY);
  CHECK_EQUAL(gpu.d.cuEventSynchronize(end), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuEventElapsedTime(&milliseconds, start, end), CUDA_SUCCESS);
  CHECK(about(milliseconds, 2500));
  CHECK(about(fake_seconds(), 2.5));
  CHECK(about(fake_link_seconds(0), 2));
}

TEST(fake_driver, directions_overlap_unless_they_share_the_link) {
  for (const bool shared : {false, true}) {
    const FakeGpu gpu;
    slow_link(shared);
    Pinned host(gpu, 2 * frame);
    const CUdeviceptr at = gpu.memory(2 * frame);
    CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), frame, gpu.stream()), CUDA_SUCCESS);
    CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host.data() + frame, at + frame, frame, gpu.stream()),
                CUDA_SUCCESS);
    CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
    CHECK(about(fake_seconds(), shared ? 2 : 1));
  }
}

TEST(fake_driver, one_direction_serves_one_copy_at_a_time_beside_kernels) {
  const FakeGpu gpu;
  slow_link(false);
  Pinned host(gpu, 2 * frame);
  const CUdeviceptr at = gpu.memory(3 * frame);
  for (const std::size_t i : {0, 1}) {
    CHECK_EQUAL(
        gpu.d.cuMemcpyHtoDAsync(at + i * frame, host.data() + i * frame, frame, gpu.stream()),
        CUDA_SUCCESS);
  }
  CHECK_EQUAL(gpu.touch(gpu.stream(), at + 2 * frame, 1, true, "compute", 1.5), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 2));
}

TEST(fake_driver, work_does_not_start_before_it_was_given) {
  const FakeGpu gpu;
  slow_link(false);
  Pinned host(gpu, frame);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  fake_advance(5);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), frame, stream), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 6));
}

TEST(fake_driver, time_passes_along_events) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const FakeGpu gpu;
    fake_seed(seed);
    const CUdeviceptr at = gpu.memory();
    const CUstream first = gpu.stream();
    const CUstream second = gpu.stream();
    CHECK_EQUAL(gpu.touch(first, at, 1, true, "first", 3), CUDA_SUCCESS);
    CHECK_EQUAL(gpu.d.cuStreamWaitEvent(second, gpu.record(first), 0), CUDA_SUCCESS);
    CHECK_EQUAL(gpu.touch(second, at + 1, 1, true, "second", 1), CUDA_SUCCESS);
    CHECK_EQUAL(gpu.d.cuStreamSynchronize(second), CUDA_SUCCESS);
    CHECK(about(fake_seconds(), 4));
  }
}

TEST(fake_driver, calls_about_memory_cost_by_the_handle) {
  const FakeGpu gpu;
  const FakeCosts costs{1, 10, 100, 1000, 10000};
  fake_set_costs(&costs);
  const CUdeviceptr at = gpu.reserve();
  const CUmemGenericAllocationHandle first = gpu.handle();
  const CUmemGenericAllocationHandle second = gpu.handle(4 * frame);
  CHECK(about(fake_seconds(), 2));
  CHECK_EQUAL(gpu.d.cuMemMap(at, frame, 0, first, 0), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemMap(at + frame, 4 * frame, 0, second, 0), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 22));
  CHECK_EQUAL(gpu.access(at, 5 * frame), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 222));
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, 5 * frame), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 2222));
  CHECK_EQUAL(gpu.d.cuMemRelease(first), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 12222));
}

TEST(fake_driver, a_copy_is_queued_once_the_driver_has_time_for_it) {
  const FakeGpu gpu;
  slow_link(false);
  const FakeDelays delays{0.25, 0};
  fake_set_delays(&delays);
  Pinned host(gpu, frame);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  for (int i = 0; i < 2; ++i) {
    CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host.data(), at, frame, stream), CUDA_SUCCESS);
  }
  CHECK(about(fake_seconds(), 0.5));  // the host does not wait for the first one
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 2.25));
}

TEST(fake_driver, only_a_thread_that_slept_wakes_late) {
  const FakeGpu gpu;
  const FakeDelays delays{0, 5};
  fake_set_delays(&delays);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.touch(stream, at, 1, true, "kernel", 3), CUDA_SUCCESS);
  const CUevent event = gpu.record(stream);
  CHECK_EQUAL(gpu.d.cuEventSynchronize(event), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 8));
  CHECK_EQUAL(gpu.d.cuEventSynchronize(event), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 8));
}

TEST(fake_driver, threads_have_clocks_of_their_own_until_they_hand_something_over) {
  const FakeGpu gpu;
  const FakeCosts costs{1, 0, 0, 0, 0};
  CUmemGenericAllocationHandle handle = 0;
  std::thread([&] {
    fake_advance(7);
    CHECK(about(fake_seconds(), 7));
    fake_set_costs(&costs);
    handle = gpu.handle();
  }).join();
  CHECK(about(fake_seconds(), 0));
  gpu.map(gpu.reserve(), handle);  // it was created at 8
  CHECK(about(fake_seconds(), 8));
}

TEST(fake_driver, the_driver_serves_one_thread_at_a_time) {
  const FakeGpu gpu;
  const FakeCosts costs{1, 0, 0, 0, 0};
  fake_set_costs(&costs);
  double others = 0;
  std::thread([&] {
    gpu.handle();
    others = fake_seconds();
  }).join();
  gpu.handle();
  CHECK(about(others, 1));
  CHECK(about(fake_seconds(), 2));
}

TEST(fake_driver, what_another_thread_copied_out_is_unmapped_after_that) {
  const FakeGpu gpu;
  slow_link(false);
  Pinned host(gpu, frame);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  std::thread([&] {
    must(gpu.d.cuCtxPushCurrent(gpu.context));
    must(gpu.d.cuMemcpyDtoHAsync(host.data(), at, frame, stream));
    must(gpu.d.cuStreamSynchronize(stream));
  }).join();
  CHECK(about(fake_seconds(), 0));
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 1));
}

TEST(fake_driver, a_query_knows_what_has_ended_by_now_and_takes_no_time) {
  const FakeGpu gpu;
  fake_seed(0);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  must(gpu.touch(stream, at, 1, true, "compute", 2));
  const CUevent end = gpu.record(stream);
  std::thread([&] {  // it is executed, but in that thread's future
    must(gpu.d.cuCtxPushCurrent(gpu.context));
    must(gpu.d.cuEventSynchronize(end));
  })
      .join();
  for (const double now : {0.0, 1.5}) {
    CHECK_EQUAL(gpu.d.cuEventQuery(end), CUDA_ERROR_NOT_READY);
    CHECK(about(fake_seconds(), now));
    fake_advance(1.5);
  }
  CHECK_EQUAL(gpu.d.cuEventQuery(end), CUDA_SUCCESS);
  CHECK(about(fake_seconds(), 3));
}

TEST(fake_driver, calls_that_took_time_say_so_and_no_others) {
  static int delays = 0;
  delays = 0;
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  fake_on_delay([] { ++delays; });
  must(gpu.touch(stream, at, 1, true, "compute", 1));
  CHECK_EQUAL(delays, 0);
  must(gpu.d.cuStreamSynchronize(stream));
  CHECK_EQUAL(delays, 1);
  must(gpu.d.cuStreamSynchronize(stream));
  CHECK_EQUAL(delays, 1);
  fake_on_delay(nullptr);
}

TEST(fake_driver, work_starts_after_the_work_whose_bytes_it_uses) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream first = gpu.stream();
  const CUstream second = gpu.stream();
  must(gpu.touch(first, at, 1, true, "first", 3));
  std::thread([&] {
    must(gpu.d.cuCtxPushCurrent(gpu.context));
    must(gpu.d.cuStreamSynchronize(first));
  }).join();
  CHECK(about(fake_seconds(), 0));  // the other thread waited, not this one
  must(gpu.touch(second, at, 1, true, "second", 1));
  must(gpu.d.cuStreamSynchronize(second));
  CHECK(about(fake_seconds(), 4));
}

}  // namespace
