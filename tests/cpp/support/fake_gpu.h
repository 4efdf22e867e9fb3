// A test's view of the fake driver: a fresh one with a current context, streams and memory in one
// line, and no reports and nothing alive at the end unless the test says so.
#pragma once

#include <cstddef>
#include <source_location>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/driver.h"
#include "support/fake_state.h"

namespace swapmem::test {

inline constexpr std::size_t MiB = std::size_t{1} << 20;
inline constexpr std::size_t frame = 2 * MiB;

// One report of this kind and no other, which is then forgotten.
inline void check_reported(int kind,
                           const std::source_location& where = std::source_location::current()) {
  if (fake_report_count(kind) != 1 || fake_report_count(0) != 1) {
    check::fail(where.file_name(), static_cast<int>(where.line()),
                "wanted one of kind " + std::to_string(kind) + ", have:\n" + report_text());
  }
  fake_clear_reports();
}

inline void check_nothing_reported(
    const std::source_location& where = std::source_location::current()) {
  if (fake_report_count(0) == 0) return;
  check::fail(where.file_name(), static_cast<int>(where.line()), "reported:\n" + report_text());
}

inline unsigned char* bytes_at(cuda::CUdeviceptr address) {
  return reinterpret_cast<unsigned char*>(address);
}

// A call that the test itself needs.
inline void must(cuda::CUresult result) {
  CHECK_EQUAL(result, cuda::CUDA_SUCCESS);
}

class FakeGpu {
 public:
  explicit FakeGpu(int devices = 1, std::size_t memory_bytes = 512 * MiB) {
    fake_reset();
    fake_set_devices(devices, memory_bytes);
    must(d.cuInit(0));
    must(d.cuDevicePrimaryCtxRetain(&context, 0));
    must(d.cuCtxPushCurrent(context));
  }
  FakeGpu(const FakeGpu&) = delete;
  FakeGpu& operator=(const FakeGpu&) = delete;
  ~FakeGpu() { fake_reset(); }

  cuda::CUstream stream(unsigned flags = cuda::CU_STREAM_NON_BLOCKING) const {
    cuda::CUstream made = nullptr;
    must(d.cuStreamCreate(&made, flags));
    return made;
  }
  cuda::CUevent event(unsigned flags = 0) const {
    cuda::CUevent made = nullptr;
    must(d.cuEventCreate(&made, flags));
    return made;
  }
  cuda::CUevent record(cuda::CUstream on) const {
    const cuda::CUevent made = event();
    must(d.cuEventRecord(made, on));
    return made;
  }

  static cuda::CUmemAllocationProp property(int device = 0) {
    cuda::CUmemAllocationProp prop{};
    prop.type = cuda::CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {cuda::CU_MEM_LOCATION_TYPE_DEVICE, device};
    return prop;
  }
  cuda::CUresult create(cuda::CUmemGenericAllocationHandle* handle, std::size_t bytes) const {
    const cuda::CUmemAllocationProp prop = property();
    return d.cuMemCreate(handle, bytes, &prop, 0);
  }
  cuda::CUmemGenericAllocationHandle handle(std::size_t bytes = frame) const {
    cuda::CUmemGenericAllocationHandle made = 0;
    must(create(&made, bytes));
    return made;
  }
  cuda::CUdeviceptr reserve(std::size_t bytes = 16 * frame) const {
    cuda::CUdeviceptr address = 0;
    must(d.cuMemAddressReserve(&address, bytes, 0, 0, 0));
    return address;
  }
  cuda::CUresult access(
      cuda::CUdeviceptr address, std::size_t bytes,
      cuda::CUmemAccess_flags flags = cuda::CU_MEM_ACCESS_FLAGS_PROT_READWRITE) const {
    const cuda::CUmemAccessDesc desc{{cuda::CU_MEM_LOCATION_TYPE_DEVICE, 0}, flags};
    return d.cuMemSetAccess(address, bytes, &desc, 1);
  }
  void map(cuda::CUdeviceptr address, cuda::CUmemGenericAllocationHandle what,
           std::size_t bytes = frame) const {
    must(d.cuMemMap(address, bytes, 0, what, 0));
    must(access(address, bytes));
  }
  // Memory at an address of its own.
  cuda::CUdeviceptr memory(std::size_t bytes = frame) const {
    const cuda::CUdeviceptr address = reserve(bytes);
    map(address, handle(bytes), bytes);
    return address;
  }

  // A kernel that only reads or writes.
  cuda::CUresult touch(cuda::CUstream on, cuda::CUdeviceptr address, std::size_t bytes, bool write,
                       const char* name = "touch", double seconds = 0) const {
    const FakeRange range{address, bytes, write ? 1 : 0};
    return fake_launch(on, name, nullptr, nullptr, &range, 1, seconds);
  }

  const cuda::Driver& d = cuda::driver();
  cuda::CUcontext context = nullptr;
};

// Host memory that is registered as long as this lives.
class Pinned {
 public:
  Pinned(const FakeGpu& gpu, std::size_t bytes) : gpu_(gpu), bytes_(bytes, 0) {
    must(gpu.d.cuMemHostRegister(bytes_.data(), bytes, 0));
  }
  ~Pinned() { gpu_.d.cuMemHostUnregister(bytes_.data()); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  unsigned char* data() { return bytes_.data(); }
  unsigned char& operator[](std::size_t i) { return bytes_[i]; }

 private:
  const FakeGpu& gpu_;
  std::vector<unsigned char> bytes_;
};

}  // namespace swapmem::test
