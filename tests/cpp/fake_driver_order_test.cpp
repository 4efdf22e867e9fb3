// The fake driver's judgement of order: it reports every pair of accesses that nothing puts in
// order, and memory that goes before its last use, whether or not it happened to go well.
#include <sys/mman.h>

#include <functional>
#include <utility>
#include <vector>

#include "check.h"
#include "support/fake_gpu.h"

namespace {

using namespace swapmem::cuda;
using namespace swapmem::test;

TEST(fake_driver, reports_accesses_that_nothing_puts_in_order) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const FakeGpu gpu;
    fake_seed(seed);
    const CUdeviceptr at = gpu.memory();
    CHECK_EQUAL(gpu.touch(gpu.stream(), at, 100, true), CUDA_SUCCESS);
    fake_run(static_cast<int>(seed % 2));  // even if it happens to be executed before
    CHECK_EQUAL(gpu.touch(gpu.stream(), at + 99, 100, false), CUDA_SUCCESS);
    check_reported(FAKE_UNORDERED);
  }
}

TEST(fake_driver, reports_a_write_after_reads_on_two_streams) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream writer = gpu.stream();
  const CUstream reader = gpu.stream();
  CHECK_EQUAL(gpu.touch(reader, at, 100, false), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(writer, at, 100, false), CUDA_SUCCESS);
  check_nothing_reported();
  CHECK_EQUAL(gpu.touch(writer, at, 100, true), CUDA_SUCCESS);
  check_reported(FAKE_UNORDERED);
}

TEST(fake_driver, reports_neither_other_bytes_nor_other_handles) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUdeviceptr other = gpu.memory();
  CHECK_EQUAL(gpu.touch(gpu.stream(), at, 100, true), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(gpu.stream(), at + 100, 100, true), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(gpu.stream(), other, 100, true), CUDA_SUCCESS);
  check_nothing_reported();
}

TEST(fake_driver, catches_a_dropped_event_wait) {
  for (const bool dropped : {false, true}) {
    const FakeGpu gpu;
    Pinned host(gpu, 100);
    const CUdeviceptr at = gpu.memory();
    const CUstream compute = gpu.stream();
    const CUstream out = gpu.stream();
    CHECK_EQUAL(gpu.touch(compute, at, 100, true), CUDA_SUCCESS);
    const CUevent computed = gpu.record(compute);
    if (!dropped) CHECK_EQUAL(gpu.d.cuStreamWaitEvent(out, computed, 0), CUDA_SUCCESS);
    CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host.data(), at, 100, out), CUDA_SUCCESS);
    if (dropped) check_reported(FAKE_UNORDERED);
    check_nothing_reported();
    CHECK_EQUAL(gpu.d.cuStreamSynchronize(out), CUDA_SUCCESS);
  }
}

TEST(fake_driver, an_event_orders_only_what_was_before_it) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream compute = gpu.stream();
  const CUstream other = gpu.stream();
  const CUevent early = gpu.record(compute);
  CHECK_EQUAL(gpu.touch(compute, at, 100, true), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuStreamWaitEvent(other, early, 0), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(other, at, 100, true), CUDA_SUCCESS);
  check_reported(FAKE_UNORDERED);
}

TEST(fake_driver, a_wait_is_for_the_record_it_saw) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream compute = gpu.stream();
  const CUstream other = gpu.stream();
  CHECK_EQUAL(gpu.touch(compute, at, 100, true), CUDA_SUCCESS);
  const CUevent event = gpu.record(compute);
  CHECK_EQUAL(gpu.d.cuStreamWaitEvent(other, event, 0), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuEventRecord(event, gpu.stream()), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(other, at, 100, true), CUDA_SUCCESS);
  check_nothing_reported();
}

TEST(fake_driver, the_host_orders_what_it_waited_for) {
  using Wait = std::function<void(const FakeGpu&, CUstream)>;
  const std::vector<std::pair<Wait, bool>> waits = {
      {[](const FakeGpu& gpu, CUstream s) { gpu.d.cuStreamSynchronize(s); }, true},
      {[](const FakeGpu& gpu, CUstream s) { gpu.d.cuEventSynchronize(gpu.record(s)); }, true},
      {[](const FakeGpu& gpu, CUstream) { gpu.d.cuCtxSynchronize(); }, true},
      {[](const FakeGpu& gpu, CUstream s) {
         while (gpu.d.cuStreamQuery(s) != CUDA_SUCCESS) {
         }
       },
       true},
      {[](const FakeGpu& gpu, CUstream s) { gpu.d.cuEventDestroy(gpu.record(s)); }, false},
      {[](const FakeGpu&, CUstream) { fake_run(100); }, false},  // executed, but who knows?
      {[](const FakeGpu& gpu, CUstream) { gpu.d.cuStreamSynchronize(gpu.stream()); }, false},
  };
  for (const auto& [wait, orders] : waits) {
    const FakeGpu gpu;
    const CUdeviceptr at = gpu.memory();
    const CUstream stream = gpu.stream();
    CHECK_EQUAL(gpu.touch(stream, at, 100, true), CUDA_SUCCESS);
    wait(gpu, stream);
    CHECK_EQUAL(gpu.touch(gpu.stream(), at, 100, true), CUDA_SUCCESS);
    if (!orders) check_reported(FAKE_UNORDERED);
    check_nothing_reported();
  }
}

TEST(fake_driver, a_host_function_tells_the_host_when_it_has_run) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.touch(stream, at, 100, true), CUDA_SUCCESS);
  must(gpu.d.cuLaunchHostFunc(stream, [](void*) {}, nullptr));
  fake_run(100);
  CHECK_EQUAL(gpu.touch(gpu.stream(), at, 100, true), CUDA_SUCCESS);
  check_nothing_reported();
}

TEST(fake_driver, the_default_stream_is_in_order_with_blocking_streams_only) {
  for (const unsigned flags : {CU_STREAM_DEFAULT, CU_STREAM_NON_BLOCKING}) {
    for (const bool default_first : {true, false}) {
      const FakeGpu gpu;
      const CUdeviceptr at = gpu.memory();
      const CUstream stream = gpu.stream(flags);
      CHECK_EQUAL(gpu.touch(default_first ? nullptr : stream, at, 100, true), CUDA_SUCCESS);
      CHECK_EQUAL(gpu.touch(default_first ? stream : legacy_stream(), at, 100, true), CUDA_SUCCESS);
      if (flags == CU_STREAM_NON_BLOCKING) check_reported(FAKE_UNORDERED);
      check_nothing_reported();
    }
  }
}

TEST(fake_driver, sees_through_two_mappings_of_one_handle) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.reserve();
  const CUmemGenericAllocationHandle handle = gpu.handle();
  gpu.map(at, handle);
  gpu.map(at + frame, handle);
  CHECK_EQUAL(gpu.touch(gpu.stream(), at, 100, true), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(gpu.stream(), at + frame, 100, false), CUDA_SUCCESS);
  check_reported(FAKE_UNORDERED);
}

TEST(fake_driver, catches_a_cached_stream) {
  for (const bool cached : {false, true}) {
    const FakeGpu gpu;
    const CUdeviceptr at = gpu.memory();
    const CUstream before = gpu.stream();
    const CUstream current = gpu.stream();
    const CUstream copies = gpu.stream();
    // The program has gone over to `current`; the copy is to come after what it does there.
    CHECK_EQUAL(gpu.touch(current, at, 100, true, "step"), CUDA_SUCCESS);
    const CUevent done = gpu.record(cached ? before : current);
    CHECK_EQUAL(gpu.d.cuStreamWaitEvent(copies, done, 0), CUDA_SUCCESS);
    CHECK_EQUAL(gpu.touch(copies, at, 100, false, "copy"), CUDA_SUCCESS);
    if (cached) check_reported(FAKE_UNORDERED);
    check_nothing_reported();
  }
}

TEST(fake_driver, catches_an_early_unmap) {
  for (const bool early : {false, true}) {
    for (const bool executed : {false, true}) {
      const FakeGpu gpu;
      const CUdeviceptr at = gpu.memory();
      const CUstream stream = gpu.stream();
      CHECK_EQUAL(gpu.touch(stream, at, 100, false), CUDA_SUCCESS);
      if (executed) fake_run(100);  // by luck; nobody waited
      if (!early) CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_SUCCESS);
      CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_SUCCESS);
      if (early) check_reported(FAKE_MEMORY_IN_USE);
      check_nothing_reported();
      CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream),
                  early && !executed ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS);
      if (early && !executed) {
        check_reported(FAKE_ILLEGAL_ADDRESS);
        CUevent event = nullptr;  // as after any such fault, the context is of no more use
        CHECK_EQUAL(gpu.d.cuEventCreate(&event, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
      }
    }
  }
}

TEST(fake_driver, an_old_mapping_may_go_while_the_new_one_is_in_use) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.reserve();
  const CUmemGenericAllocationHandle handle = gpu.handle();
  gpu.map(at, handle);
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.touch(stream, at, 100, true), CUDA_SUCCESS);
  const CUevent last_use = gpu.record(stream);
  gpu.map(at + frame, handle);
  CHECK_EQUAL(gpu.touch(stream, at + frame, 100, true), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuEventSynchronize(last_use), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_SUCCESS);
  check_nothing_reported();
  CHECK_EQUAL(gpu.d.cuMemUnmap(at + frame, frame), CUDA_SUCCESS);
  check_reported(FAKE_MEMORY_IN_USE);
}

TEST(fake_driver, catches_an_early_free) {
  const FakeGpu gpu;
  CUdeviceptr at = 0;
  CHECK_EQUAL(gpu.d.cuMemAlloc(&at, 100), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.touch(gpu.stream(), at, 100, true), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemFree(at), CUDA_SUCCESS);
  check_reported(FAKE_MEMORY_IN_USE);
}

TEST(fake_driver, catches_a_doubled_unmap) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_SUCCESS);
  check_nothing_reported();
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_ERROR_INVALID_VALUE);
  check_reported(FAKE_MISUSE);
}

TEST(fake_driver, a_kernel_on_memory_that_is_not_there_breaks_the_context) {
  const FakeGpu gpu;
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.touch(stream, gpu.reserve(), 100, false), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  check_reported(FAKE_ILLEGAL_ADDRESS);
}

TEST(fake_driver, catches_an_early_recycle_of_host_memory) {
  for (const bool early : {false, true}) {
    const FakeGpu gpu;
    Pinned host(gpu, 100);
    const CUdeviceptr at = gpu.memory();
    const CUdeviceptr other = gpu.memory();
    const CUstream out = gpu.stream();
    const CUstream in = gpu.stream();
    CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, in), CUDA_SUCCESS);
    if (!early) CHECK_EQUAL(gpu.d.cuStreamSynchronize(in), CUDA_SUCCESS);
    // Its copy was given, so the buffer takes the next array's bytes.
    CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host.data(), other, 100, out), CUDA_SUCCESS);
    if (early) check_reported(FAKE_UNORDERED);
    check_nothing_reported();
    CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
  }
}

TEST(fake_driver, catches_the_host_at_bytes_that_are_being_copied) {
  const FakeGpu gpu;
  Pinned host(gpu, 100);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  fake_host_access(host.data(), 100, 1);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, stream), CUDA_SUCCESS);
  fake_host_access(host.data(), 100, 0);  // both only read
  check_nothing_reported();
  fake_host_access(host.data() + 99, 1, 1);
  check_reported(FAKE_UNORDERED);
  CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host.data(), at, 100, stream), CUDA_SUCCESS);
  fake_host_access(host.data(), 1, 0);
  check_reported(FAKE_UNORDERED);
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_SUCCESS);
  fake_host_access(host.data(), 100, 1);
  check_nothing_reported();
}

TEST(fake_driver, catches_host_memory_that_goes_while_a_copy_uses_it) {
  const FakeGpu gpu;
  std::vector<unsigned char> host(100);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.d.cuMemHostRegister(host.data(), 100, 0), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, stream), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemHostUnregister(host.data()), CUDA_SUCCESS);
  check_reported(FAKE_HOST_IN_USE);
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  check_reported(FAKE_ILLEGAL_ADDRESS);
}

TEST(fake_driver, catches_an_early_free_of_host_memory) {
  const FakeGpu gpu;
  void* host = nullptr;
  CHECK_EQUAL(gpu.d.cuMemHostAlloc(&host, 100, 0), CUDA_SUCCESS);
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(gpu.memory(), host, 100, stream), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemFreeHost(host), CUDA_SUCCESS);
  check_reported(FAKE_HOST_IN_USE);
}

TEST(fake_driver, catches_host_memory_that_was_unmapped_while_registered) {
  const FakeGpu gpu;
  void* host = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQUAL(gpu.d.cuMemHostRegister(host, 4096, 0), CUDA_SUCCESS);
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host, gpu.memory(), 4096, stream), CUDA_SUCCESS);
  munmap(host, 4096);
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  check_reported(FAKE_ILLEGAL_ADDRESS);
}

TEST(fake_driver, the_end_of_a_context_is_no_way_to_clean_up) {
  const FakeGpu gpu;
  gpu.stream();
  CHECK_EQUAL(gpu.d.cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
  check_reported(FAKE_MISUSE);
  CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
}

}  // namespace
