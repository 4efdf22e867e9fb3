// What the fake driver refuses, because no correct program does it or because the test says so.
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "support/fake_gpu.h"
#include "support/process.h"

namespace {

using namespace swapmem::cuda;
using namespace swapmem::test;

struct Misuse {
  std::string name;
  CUresult result;
  std::function<CUresult(const FakeGpu&)> call;
};

std::vector<Misuse> misuses() {
  constexpr auto invalid = CUDA_ERROR_INVALID_VALUE;
  constexpr auto no_handle = CUDA_ERROR_INVALID_HANDLE;
  constexpr auto no_context = CUDA_ERROR_INVALID_CONTEXT;
  return {
      {"reserve_part_of_a_page", invalid,
       [](const FakeGpu& gpu) {
         CUdeviceptr at = 0;
         return gpu.d.cuMemAddressReserve(&at, frame + 4096, 0, 0, 0);
       }},
      {"free_part_of_a_reservation", invalid,
       [](const FakeGpu& gpu) { return gpu.d.cuMemAddressFree(gpu.reserve(), frame); }},
      {"free_a_reservation_with_memory", invalid,
       [](const FakeGpu& gpu) { return gpu.d.cuMemAddressFree(gpu.memory(), frame); }},
      {"create_part_of_a_page", invalid,
       [](const FakeGpu& gpu) {
         CUmemGenericAllocationHandle handle = 0;
         return gpu.create(&handle, 4096);
       }},
      {"release_twice", invalid,
       [](const FakeGpu& gpu) {
         const CUmemGenericAllocationHandle handle = gpu.handle();
         must(gpu.d.cuMemRelease(handle));
         return gpu.d.cuMemRelease(handle);
       }},
      {"map_a_released_handle", invalid,
       [](const FakeGpu& gpu) {
         const CUmemGenericAllocationHandle handle = gpu.handle();
         must(gpu.d.cuMemRelease(handle));
         return gpu.d.cuMemMap(gpu.reserve(), frame, 0, handle, 0);
       }},
      {"map_what_is_not_reserved", invalid,
       [](const FakeGpu& gpu) {
         return gpu.d.cuMemMap(gpu.reserve(frame) + frame, frame, 0, gpu.handle(), 0);
       }},
      {"map_beyond_a_reservation", invalid,
       [](const FakeGpu& gpu) {
         return gpu.d.cuMemMap(gpu.reserve(frame), 2 * frame, 0, gpu.handle(2 * frame), 0);
       }},
      {"map_over_memory", invalid,
       [](const FakeGpu& gpu) {
         const CUdeviceptr at = gpu.reserve();
         gpu.map(at + frame, gpu.handle());
         return gpu.d.cuMemMap(at, 2 * frame, 0, gpu.handle(2 * frame), 0);
       }},
      {"map_within_memory", invalid,
       [](const FakeGpu& gpu) {
         const CUdeviceptr at = gpu.reserve();
         gpu.map(at, gpu.handle(2 * frame), 2 * frame);
         return gpu.d.cuMemMap(at + frame, frame, 0, gpu.handle(), 0);
       }},
      {"map_at_an_offset", invalid,
       [](const FakeGpu& gpu) {
         return gpu.d.cuMemMap(gpu.reserve(), frame, frame, gpu.handle(2 * frame), 0);
       }},
      {"map_misaligned", invalid,
       [](const FakeGpu& gpu) {
         return gpu.d.cuMemMap(gpu.reserve() + 4096, frame, 0, gpu.handle(), 0);
       }},
      {"map_more_than_the_handle", invalid,
       [](const FakeGpu& gpu) {
         return gpu.d.cuMemMap(gpu.reserve(), 2 * frame, 0, gpu.handle(), 0);
       }},
      {"unmap_what_was_never_mapped", invalid,
       [](const FakeGpu& gpu) { return gpu.d.cuMemUnmap(gpu.reserve(), frame); }},
      {"unmap_twice", invalid,
       [](const FakeGpu& gpu) {
         const CUdeviceptr at = gpu.memory();
         must(gpu.d.cuMemUnmap(at, frame));
         return gpu.d.cuMemUnmap(at, frame);
       }},
      {"unmap_the_first_part", invalid,
       [](const FakeGpu& gpu) { return gpu.d.cuMemUnmap(gpu.memory(2 * frame), frame); }},
      {"unmap_the_last_part", invalid,
       [](const FakeGpu& gpu) { return gpu.d.cuMemUnmap(gpu.memory(2 * frame) + frame, frame); }},
      {"unmap_over_a_gap", invalid,
       [](const FakeGpu& gpu) {
         const CUdeviceptr at = gpu.reserve();
         gpu.map(at, gpu.handle());
         gpu.map(at + 2 * frame, gpu.handle());
         return gpu.d.cuMemUnmap(at, 3 * frame);
       }},
      {"unmap_what_was_allocated", invalid,
       [](const FakeGpu& gpu) {
         CUdeviceptr at = 0;
         must(gpu.d.cuMemAlloc(&at, frame));
         return gpu.d.cuMemUnmap(at, frame);
       }},
      {"set_access_of_a_part", invalid,
       [](const FakeGpu& gpu) { return gpu.access(gpu.memory(2 * frame), frame); }},
      {"set_access_of_nothing", invalid,
       [](const FakeGpu& gpu) { return gpu.access(gpu.reserve(), frame); }},
      {"set_access_for_no_device", CUDA_ERROR_INVALID_DEVICE,
       [](const FakeGpu& gpu) {
         const CUmemAccessDesc desc{{CU_MEM_LOCATION_TYPE_DEVICE, 5},
                                    CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
         return gpu.d.cuMemSetAccess(gpu.memory(), frame, &desc, 1);
       }},
      {"free_what_was_mapped", invalid,
       [](const FakeGpu& gpu) { return gpu.d.cuMemFree(gpu.memory()); }},
      {"register_twice", CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
       [](const FakeGpu& gpu) {
         static unsigned char host[100];
         must(gpu.d.cuMemHostRegister(host, 100, 0));
         return gpu.d.cuMemHostRegister(host + 50, 10, 0);
       }},
      {"register_what_is_not_there", invalid,
       [](const FakeGpu& gpu) {
         return gpu.d.cuMemHostRegister(reinterpret_cast<void*>(4096), 4096, 0);
       }},
      {"unregister_what_is_not_registered", CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
       [](const FakeGpu& gpu) {
         int here = 0;
         return gpu.d.cuMemHostUnregister(&here);
       }},
      {"copy_to_memory_without_access", invalid,
       [](const FakeGpu& gpu) {
         Pinned host(gpu, 100);
         const CUdeviceptr at = gpu.reserve();
         must(gpu.d.cuMemMap(at, frame, 0, gpu.handle(), 0));
         return gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, gpu.stream());
       }},
      {"copy_to_memory_that_may_only_be_read", invalid,
       [](const FakeGpu& gpu) {
         Pinned host(gpu, 100);
         const CUdeviceptr at = gpu.memory();
         must(gpu.access(at, frame, CU_MEM_ACCESS_FLAGS_PROT_READ));
         return gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, gpu.stream());
       }},
      {"copy_beyond_the_end", invalid,
       [](const FakeGpu& gpu) {
         Pinned host(gpu, 100);
         return gpu.d.cuMemcpyDtoHAsync(host.data(), gpu.memory() + frame - 50, 100, gpu.stream());
       }},
      {"use_a_destroyed_stream", no_handle,
       [](const FakeGpu& gpu) {
         const CUstream gone = gpu.stream();
         must(gpu.d.cuStreamDestroy(gone));
         return gpu.touch(gone, gpu.memory(), frame, true);
       }},
      {"destroy_a_stream_twice", no_handle,
       [](const FakeGpu& gpu) {
         const CUstream gone = gpu.stream();
         must(gpu.d.cuStreamDestroy(gone));
         return gpu.d.cuStreamDestroy(gone);
       }},
      {"wait_for_a_destroyed_event", no_handle,
       [](const FakeGpu& gpu) {
         const CUevent gone = gpu.event();
         must(gpu.d.cuEventDestroy(gone));
         return gpu.d.cuStreamWaitEvent(gpu.stream(), gone, 0);
       }},
      {"time_an_event_that_was_never_recorded", no_handle,
       [](const FakeGpu& gpu) {
         float ms = 0;
         return gpu.d.cuEventElapsedTime(&ms, gpu.event(), gpu.event());
       }},
      {"use_a_stream_of_another_context", no_handle,
       [](const FakeGpu& gpu) {
         const CUstream here = gpu.stream();
         const CUdeviceptr at = gpu.memory();
         CUcontext other = nullptr;
         must(gpu.d.cuDevicePrimaryCtxRetain(&other, 1));
         must(gpu.d.cuCtxSetCurrent(other));
         return gpu.touch(here, at, frame, true);
       }},
      {"work_without_a_context", no_context,
       [](const FakeGpu& gpu) {
         must(gpu.d.cuCtxSetCurrent(nullptr));
         CUstream stream = nullptr;
         return gpu.d.cuStreamCreate(&stream, 0);
       }},
      {"push_a_context_that_is_gone", no_context,
       [](const FakeGpu& gpu) {
         CUcontext other = nullptr;
         must(gpu.d.cuDevicePrimaryCtxRetain(&other, 1));
         must(gpu.d.cuDevicePrimaryCtxRelease(1));
         return gpu.d.cuCtxPushCurrent(other);
       }},
      {"release_a_context_twice", no_context,
       [](const FakeGpu& gpu) { return gpu.d.cuDevicePrimaryCtxRelease(1); }},
      {"pop_more_than_was_pushed", no_context,
       [](const FakeGpu& gpu) {
         must(gpu.d.cuCtxPopCurrent(nullptr));
         return gpu.d.cuCtxPopCurrent(nullptr);
       }},
      {"throw_from_a_host_function", CUDA_SUCCESS,
       [](const FakeGpu& gpu) {
         const CUstream stream = gpu.stream();
         must(gpu.d.cuLaunchHostFunc(
             stream, [](void*) { throw std::runtime_error("no"); }, nullptr));
         return gpu.d.cuStreamSynchronize(stream);
       }},
      {"call_the_driver_from_a_host_function", CUDA_ERROR_NOT_PERMITTED,
       [](const FakeGpu& gpu) {
         static CUresult result;
         const CUstream stream = gpu.stream();
         must(gpu.d.cuLaunchHostFunc(
             stream, [](void*) { result = driver().cuCtxSynchronize(); }, nullptr));
         must(gpu.d.cuStreamSynchronize(stream));
         return result;
       }},
  };
}

TEST_EACH(fake_driver, refuses_and_reports, misuses()) {
  const FakeGpu gpu(2);
  CHECK_EQUAL(kind.call(gpu), kind.result);
  check_reported(FAKE_MISUSE);
}

TEST(fake_driver, refuses_asynchronous_copies_from_unregistered_memory) {
  const FakeGpu gpu;
  std::vector<unsigned char> host(100, 3);
  const CUdeviceptr at = gpu.memory();
  const CUstream stream = gpu.stream();
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 100, stream), CUDA_ERROR_INVALID_VALUE);
  check_reported(FAKE_PAGEABLE);
  CHECK_EQUAL(gpu.d.cuMemcpyDtoHAsync(host.data(), at, 100, stream), CUDA_ERROR_INVALID_VALUE);
  check_reported(FAKE_PAGEABLE);
  CHECK_EQUAL(gpu.d.cuMemHostRegister(host.data(), 60, 0), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoDAsync(at, host.data(), 61, stream), CUDA_ERROR_INVALID_VALUE);
  check_reported(FAKE_PAGEABLE);
  CHECK_EQUAL(gpu.d.cuMemcpyHtoD(at, host.data(), 100), CUDA_SUCCESS);
  CHECK_EQUAL(bytes_at(at)[99], 3);
  check_nothing_reported();
}

TEST(fake_driver, pins_no_more_than_it_may) {
  const FakeGpu gpu;
  fake_set_pinned_limit(150);
  std::vector<unsigned char> host(200);
  CHECK_EQUAL(gpu.d.cuMemHostRegister(host.data(), 100, 0), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemHostRegister(host.data() + 100, 100, 0), CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_EQUAL(gpu.d.cuMemHostUnregister(host.data()), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemHostRegister(host.data() + 100, 100, 0), CUDA_SUCCESS);
  void* more = nullptr;
  CHECK_EQUAL(gpu.d.cuMemHostAlloc(&more, 100, 0), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST(fake_driver, fails_the_nth_call_once_or_for_ever) {
  const FakeGpu gpu;
  CUmemGenericAllocationHandle handle = 0;
  fake_fail("cuMemCreate", 2, CUDA_ERROR_OUT_OF_MEMORY, 0);
  fake_fail("cuMemRelease", 1, CUDA_ERROR_UNKNOWN, 1);
  CHECK_EQUAL(gpu.create(&handle, frame), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.create(&handle, frame), CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_EQUAL(gpu.create(&handle, frame), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
  CHECK_EQUAL(gpu.d.cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
  CHECK_EQUAL(counts().handles, 2u);  // what failed did nothing
  fake_fail_none();
  CHECK_EQUAL(gpu.d.cuMemRelease(handle), CUDA_SUCCESS);
  CHECK_EQUAL(fake_calls("cuMemCreate"), 3u);
  fake_fail("*", 2, CUDA_ERROR_UNKNOWN, 0);
  CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
  CHECK_EQUAL(gpu.d.cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
  check_nothing_reported();
}

TEST(fake_driver, a_broken_context_fails_whatever_needs_it) {
  const FakeGpu gpu;
  const CUstream stream = gpu.stream();
  fake_break_context(0, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK_EQUAL(gpu.d.cuStreamSynchronize(stream), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK_EQUAL(gpu.touch(stream, gpu.memory(), 100, true), CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

TEST(fake_driver, a_forked_child_is_refused) {
  const FakeGpu gpu;
  const Ended child =
      in_fork([&] { return gpu.d.cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1; });
  CHECK(child.exited(0));
  CHECK_EQUAL(gpu.d.cuCtxSynchronize(), CUDA_SUCCESS);
}

}  // namespace
