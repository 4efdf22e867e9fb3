// Fences of streams of the fake driver, and memory for what is queued there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "cuda/streams.h"
#include "support/fake_cuda.h"

namespace swapmem::test {

// Memory for kernels, in the context of a device.
class Buffer {
 public:
  explicit Buffer(const cuda::Context& context, std::size_t bytes = std::size_t{64} << 10)
      : context_(context), bytes_(bytes) {
    const cuda::Context::Scope scope(context_);
    cuda::CUdeviceptr address = 0;
    cuda::check(cuda::driver().cuMemAlloc(&address, bytes_), "cuMemAlloc");
    address_ = static_cast<Address>(address);
  }
  ~Buffer() {
    const cuda::Context::Scope scope(context_);
    cuda::driver().cuCtxSynchronize();
    cuda::driver().cuMemFree(address_);
  }
  Address address() const { return address_; }
  std::size_t bytes() const { return bytes_; }

 private:
  const cuda::Context& context_;
  const std::size_t bytes_;
  Address address_ = 0;
};

// Everything a test needs; it ends with nothing left and nothing reported.
inline void with_streams(const std::function<void(cuda::Context&, cuda::Streams&)>& body,
                         int devices = 1) {
  const FakeCuda fake(devices);
  {
    cuda::Context context(0);
    cuda::Streams streams(context);
    body(context, streams);
  }
  fake.finish();
}

inline Fence fence_on(cuda::Streams& streams, cuda::CUstream stream) {
  const cuda::CurrentStream current(stream);
  return streams.fence();
}

inline void order_on(cuda::Streams& streams, cuda::CUstream stream, Fence fence) {
  const cuda::CurrentStream current(stream);
  streams.order(fence);
}

inline std::uint64_t number(Fence fence) {
  return fence >> fence_stream_shift;
}

}  // namespace swapmem::test
