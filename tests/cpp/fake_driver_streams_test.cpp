// The fake driver's streams: work is only queued, the seed chooses among them, several threads at
// once.
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "support/fake_gpu.h"

namespace {

using namespace swapmem::cuda;
using namespace swapmem::test;

TEST(fake_driver, copies_move_bytes_when_they_are_executed) {
  const FakeGpu gpu;
  Pinned host(gpu, 100);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  std::memset(host.data(), 1, 100);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, stream), CUDA_SUCCESS);
  CHECK_EQUAL(bytes_at(at)[0], 0xCD);
  CHECK_EQUAL(counts().queued, 1u);
  host[0] = 2;  // too early: the copy takes it
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_SUCCESS);
  CHECK_EQUAL(bytes_at(at)[0], 2);
  CHECK_EQUAL(bytes_at(at)[99], 1);
  CHECK_EQUAL(counts().queued, 0u);
}

TEST(fake_driver, copies_within_the_device_and_fills) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.d.cuMemsetD8Async(at, 9, 100, stream), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemcpyDtoDAsync(at + 200, at, 100, stream), CUDA_SUCCESS);
  unsigned char host[100];
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemcpyDtoH(host, at + 200, 100), CUDA_SUCCESS);
  CHECK_EQUAL(host[99], 9);
  check_nothing_reported();
}

std::vector<int> order_of_execution;  // one stream's work writes 1, another's 2, ...

void give_number(CUstream stream, int number) {
  must(driver().cuLaunchHostFunc(
      stream,
      [](void* data) {
        order_of_execution.push_back(static_cast<int>(reinterpret_cast<long>(data)));
      },
      reinterpret_cast<void*>(static_cast<long>(number))));
}

std::vector<int> order_with(std::uint64_t seed) {
  const FakeGpu gpu;
  fake_seed(seed);
  order_of_execution.clear();
  const CUstream first = gpu.stream();
  const CUstream second = gpu.stream();
  for (int i = 1; i <= 3; ++i) give_number(first, i);
  for (int i = 11; i <= 13; ++i) give_number(second, i);
  CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
  return order_of_execution;
}

TEST(fake_driver, the_seed_chooses_among_streams_and_keeps_the_order_within_each) {
  std::set<std::vector<int>> orders;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const std::vector<int> order = order_with(seed);
    CHECK(order == order_with(seed));
    orders.insert(order);
    std::vector<int> first;
    std::vector<int> second;
    for (const int number : order) (number < 10 ? first : second).push_back(number);
    CHECK((first == std::vector<int>{1, 2, 3}));
    CHECK((second == std::vector<int>{11, 12, 13}));
  }
  CHECK(orders.size() > 10);
}

TEST(fake_driver, an_event_holds_back_what_waits_for_it) {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    const FakeGpu gpu;
    fake_seed(seed);
    order_of_execution.clear();
    const CUstream first = gpu.stream();
    const CUstream second = gpu.stream();
    give_number(first, 1);
    CHECK_EQUAL(gpu.d.cuStreamWaitEvent(second, gpu.record(first), 0), CUDA_SUCCESS);
    give_number(second, 2);
    CHECK_EQUAL(gpu.d.cuStreamSynchronize(second), CUDA_SUCCESS);
    CHECK((order_of_execution == std::vector<int>{1, 2}));
  }
}

TEST(fake_driver, a_query_gets_there_in_the_end) {
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    const FakeGpu gpu;
    fake_seed(seed);
    const CUstream stream = gpu.stream();
    order_of_execution.clear();
    for (int i = 0; i < 5; ++i) give_number(stream, i);
    const CUevent event = gpu.record(stream);
    CHECK_EQUAL(gpu.d.cuEventQuery(event), CUDA_ERROR_NOT_READY);
    while (gpu.d.cuEventQuery(event) == CUDA_ERROR_NOT_READY) {
    }
    CHECK_EQUAL(gpu.d.cuStreamQuery(stream), CUDA_SUCCESS);
    CHECK_EQUAL(order_of_execution.size(), 5u);
    CHECK_EQUAL(gpu.d.cuEventQuery(gpu.event()), CUDA_SUCCESS);
  }
}

TEST(fake_driver, runs_what_it_is_told_to_and_not_what_is_held) {
  const FakeGpu gpu;
  const CUstream first = gpu.stream();
  const CUstream second = gpu.stream();
  order_of_execution.clear();
  fake_hold(first, 1);
  for (int i = 1; i <= 3; ++i) give_number(first, i);
  for (int i = 11; i <= 13; ++i) give_number(second, i);
  CHECK_EQUAL(fake_run(2), 2);
  CHECK_EQUAL(fake_run(100), 1);
  CHECK((order_of_execution == std::vector<int>{11, 12, 13}));
  fake_hold(first, 0);
  CHECK_EQUAL(fake_run(100), 3);
}

TEST(fake_driver, a_destroyed_stream_finishes_its_work) {
  const FakeGpu gpu;
  const CUstream stream = gpu.stream();
  order_of_execution.clear();
  give_number(stream, 1);
  CHECK_EQUAL(gpu.d.cuStreamDestroy(stream), CUDA_SUCCESS);
  CHECK_EQUAL(counts().streams, 0u);
  CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
  CHECK_EQUAL(order_of_execution.size(), 1u);
}

TEST(fake_driver, a_stream_may_get_the_handle_but_not_the_id_of_another) {
  const FakeGpu gpu;
  fake_set_reuse(1);
  const CUstream first = gpu.stream();
  unsigned long long first_id = 0;
  CHECK_EQUAL(gpu.d.cuStreamGetId(first, &first_id), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuStreamDestroy(first), CUDA_SUCCESS);
  CHECK(gpu.stream() == first);
  unsigned long long second_id = 0;
  CHECK_EQUAL(gpu.d.cuStreamGetId(first, &second_id), CUDA_SUCCESS);
  CHECK(first_id != second_id);
}

TEST(fake_driver, serves_several_threads_at_once) {
  const FakeGpu gpu;
  fake_seed(check::seed());
  constexpr int threads = 4;
  constexpr std::size_t bytes = 4096;
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&gpu, t] {
      must(gpu.d.cuCtxPushCurrent(gpu.context));
      const CUstream in = gpu.stream();
      const CUstream out = gpu.stream();
      Pinned from(gpu, bytes);
      Pinned to(gpu, bytes);
      const CUdeviceptr at = gpu.reserve();
      const CUmemGenericAllocationHandle handle = gpu.handle();
      for (int i = 0; i < 20; ++i) {
        const auto value = static_cast<unsigned char>(t * 50 + i);
        gpu.map(at, handle);
        std::memset(from.data(), value, bytes);
        must(gpu.d.cuMemcpyHtoDAsync(at, from.data(), bytes, in));
        const CUevent there = gpu.record(in);
        must(gpu.d.cuStreamWaitEvent(out, there, 0));
        must(gpu.d.cuMemcpyDtoHAsync(to.data(), at, bytes, out));
        must(gpu.d.cuEventDestroy(there));
        must(gpu.d.cuStreamSynchronize(out));
        CHECK_EQUAL(to[bytes - 1], value);
        must(gpu.d.cuMemUnmap(at, frame));
      }
      must(gpu.d.cuMemRelease(handle));
    });
  }
  for (std::thread& thread : running) thread.join();
  CHECK_EQUAL(counts().mappings, 0u);
  CHECK_EQUAL(counts().handles, 0u);
  check_nothing_reported();
}

}  // namespace
