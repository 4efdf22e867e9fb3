// The fake driver's memory: real, as large as it is, there from set access to unmap; and what is
// left of it.
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "support/fake_gpu.h"
#include "support/process.h"

namespace {

using namespace swapmem::cuda;
using namespace swapmem::test;

// Whether the system itself can read or write a byte there; a fault would end the test.
bool readable(CUdeviceptr address) {
  int ends[2];
  CHECK_EQUAL(pipe(ends), 0);
  const bool could = write(ends[1], bytes_at(address), 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return could;
}

bool writable(CUdeviceptr address) {
  int ends[2];
  CHECK_EQUAL(pipe(ends), 0);
  CHECK_EQUAL(write(ends[1], "x", 1), 1);
  const bool could = read(ends[0], bytes_at(address), 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return could;
}

TEST(fake_driver, memory_is_there_from_set_access_to_unmap) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.reserve();
  CHECK(!readable(at));
  CHECK_EQUAL(gpu.d.cuMemMap(at, frame, 0, gpu.handle(), 0), CUDA_SUCCESS);
  CHECK(!readable(at));
  CHECK_EQUAL(gpu.access(at, frame, CU_MEM_ACCESS_FLAGS_PROT_READ), CUDA_SUCCESS);
  CHECK(readable(at) && !writable(at));
  CHECK_EQUAL(gpu.access(at, frame), CUDA_SUCCESS);
  CHECK(readable(at + frame - 1) && writable(at));
  CHECK(!readable(at + frame));
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_SUCCESS);
  CHECK(!readable(at));
  check_nothing_reported();
}

TEST(fake_driver, a_touch_of_unmapped_memory_is_a_fault) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.reserve();
  const Ended child = in_fork([&] {
    *static_cast<volatile unsigned char*>(bytes_at(at)) = 1;
    return 0;
  });
  CHECK(child.died());
}

TEST(fake_driver, a_handle_may_be_mapped_twice) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.reserve();
  const CUmemGenericAllocationHandle handle = gpu.handle();
  gpu.map(at, handle);
  gpu.map(at + 4 * frame, handle);
  std::memset(bytes_at(at), 7, frame);
  CHECK_EQUAL(bytes_at(at + 4 * frame)[frame - 1], 7);
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, frame), CUDA_SUCCESS);
  CHECK_EQUAL(bytes_at(at + 4 * frame)[0], 7);
  check_nothing_reported();
}

TEST(fake_driver, several_mappings_may_be_unmapped_at_once) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.reserve();
  gpu.map(at, gpu.handle());
  gpu.map(at + frame, gpu.handle(2 * frame), 2 * frame);
  CHECK_EQUAL(gpu.access(at, 3 * frame), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, 3 * frame), CUDA_SUCCESS);
  CHECK_EQUAL(counts().mappings, 0u);
  check_nothing_reported();
}

TEST(fake_driver, a_released_handle_lives_while_it_is_mapped) {
  const FakeGpu gpu(1, 4 * frame);
  const CUdeviceptr at = gpu.reserve();
  const CUmemGenericAllocationHandle handle = gpu.handle(4 * frame);
  gpu.map(at, handle, 4 * frame);
  CHECK_EQUAL(gpu.d.cuMemRelease(handle), CUDA_SUCCESS);
  CHECK(readable(at));
  CUmemGenericAllocationHandle other = 0;
  CHECK_EQUAL(gpu.create(&other, frame), CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, 4 * frame), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.create(&other, frame), CUDA_SUCCESS);
  check_nothing_reported();
}

TEST(fake_driver, device_memory_is_as_large_as_it_is) {
  const FakeGpu gpu(1, 4 * frame);
  gpu.handle(2 * frame);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  CHECK_EQUAL(gpu.d.cuMemGetInfo(&free_bytes, &total_bytes), CUDA_SUCCESS);
  CHECK_EQUAL(free_bytes, 2 * frame);
  CHECK_EQUAL(total_bytes, 4 * frame);
  CUmemGenericAllocationHandle handle = 0;
  CHECK_EQUAL(gpu.create(&handle, 3 * frame), CUDA_ERROR_OUT_OF_MEMORY);
  CUdeviceptr address = 0;
  CHECK_EQUAL(gpu.d.cuMemAlloc(&address, 2 * frame + 1), CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_EQUAL(gpu.d.cuMemAlloc(&address, 100), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemFree(address), CUDA_SUCCESS);
  check_nothing_reported();
}

TEST(fake_driver, new_memory_holds_garbage) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  CHECK_EQUAL(bytes_at(at)[0], 0xCD);
  CHECK_EQUAL(bytes_at(at)[frame - 1], 0xCD);
}

TEST(fake_driver, reservations_are_aligned_as_wished) {
  const FakeGpu gpu;
  CUdeviceptr at = 0;
  CHECK_EQUAL(gpu.d.cuMemAddressReserve(&at, frame, 64 * MiB, 0, 0), CUDA_SUCCESS);
  CHECK_EQUAL(at % (64 * MiB), 0u);
  CHECK_EQUAL(gpu.d.cuMemAddressFree(at, frame), CUDA_SUCCESS);
  check_nothing_reported();
}

TEST(fake_driver, says_what_an_address_is) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory();
  CUdeviceptr begin = 0;
  std::size_t size = 0;
  int ordinal = -1;
  unsigned kind = 0;
  CUpointer_attribute attributes[] = {
      CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE,
      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
  void* data[] = {&begin, &size, &ordinal, &kind};
  CHECK_EQUAL(gpu.d.cuPointerGetAttributes(4, attributes, data, at + 100), CUDA_SUCCESS);
  CHECK_EQUAL(begin, at);
  CHECK_EQUAL(size, frame);
  CHECK_EQUAL(ordinal, 0);
  CHECK_EQUAL(kind, CU_MEMORYTYPE_DEVICE);
  Pinned host(gpu, 100);
  const auto on_host = reinterpret_cast<CUdeviceptr>(host.data());
  CHECK_EQUAL(gpu.d.cuPointerGetAttribute(&kind, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, on_host),
              CUDA_SUCCESS);
  CHECK_EQUAL(kind, CU_MEMORYTYPE_HOST);
  CHECK_EQUAL(gpu.d.cuPointerGetAttribute(&kind, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 64),
              CUDA_ERROR_INVALID_VALUE);
}

TEST(fake_driver, counts_what_is_alive) {
  const FakeGpu gpu;
  const CUdeviceptr at = gpu.memory(2 * frame);
  gpu.handle();
  CUdeviceptr allocated = 0;
  CHECK_EQUAL(gpu.d.cuMemAlloc(&allocated, 100), CUDA_SUCCESS);
  void* host = nullptr;
  CHECK_EQUAL(gpu.d.cuMemHostAlloc(&host, 100, 0), CUDA_SUCCESS);
  Pinned pinned(gpu, 50);
  gpu.record(gpu.stream());
  const FakeCounts now = counts();
  CHECK_EQUAL(now.handles, 2u);
  CHECK_EQUAL(now.handle_bytes, 3 * frame);
  CHECK_EQUAL(now.mappings, 1u);
  CHECK_EQUAL(now.reservations, 1u);
  CHECK_EQUAL(now.allocations, 1u);
  CHECK_EQUAL(now.registrations, 1u);
  CHECK_EQUAL(now.registered_bytes, 150u);
  CHECK_EQUAL(now.host_allocations, 1u);
  CHECK_EQUAL(now.streams, 1u);
  CHECK_EQUAL(now.events, 1u);
  CHECK_EQUAL(now.contexts, 1u);
  CHECK_EQUAL(now.queued, 1u);
  CHECK_EQUAL(gpu.d.cuMemUnmap(at, 2 * frame), CUDA_SUCCESS);
  CHECK_EQUAL(counts().mappings, 0u);
}

TEST(child, leaves_a_handle) {
  must(driver().cuInit(0));
  const CUmemAllocationProp property = FakeGpu::property();
  CUmemGenericAllocationHandle handle = 0;
  must(driver().cuMemCreate(&handle, frame, &property, 0));
}

TEST(child, leaves_a_report) {
  must(driver().cuInit(0));
  CHECK_EQUAL(driver().cuMemRelease(5), CUDA_ERROR_INVALID_VALUE);
}

TEST(child, leaves_nothing) {
  must(driver().cuInit(0));
}

TEST(fake_driver, the_process_fails_if_something_is_left_at_exit) {
  const Ended handle = in_new_process("child/leaves_a_handle");
  CHECK(handle.exited(97));
  CHECK(handle.errors.find("handles 1") != std::string::npos);
  const Ended report = in_new_process("child/leaves_a_report");
  CHECK(report.exited(97));
  CHECK(report.errors.find("cuMemRelease of no handle") != std::string::npos);
  CHECK(in_new_process("child/leaves_nothing").exited(0));
}

}  // namespace
