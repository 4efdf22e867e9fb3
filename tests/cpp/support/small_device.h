// A CUDA device with small frames, on a fresh fake driver, and what tests do with one.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cuda/cuda_device.h"
#include "support/fake_cuda.h"
#include "support/probe.h"

namespace swapmem::test {

constexpr std::size_t page = std::size_t{2} << 20;
constexpr std::size_t frame = 4 * page;
constexpr std::size_t address_bytes = std::size_t{4} << 30;

inline std::unique_ptr<cuda::CudaDevice> make_device(int ordinal = 0) {
  return std::make_unique<cuda::CudaDevice>(ordinal, frame, address_bytes);
}

// It ends with nothing left and nothing reported.
inline void with_device(const std::function<void(cuda::CudaDevice&)>& body, int devices = 1) {
  const FakeCuda fake(devices);
  {
    const auto device = make_device();
    body(*device);
  }
  fake.finish();
}

// As the engine places them: pages, a frame, frames behind a head.
inline std::vector<Span> spans(const cuda::CudaDevice& device, std::size_t first_frame = 16) {
  const Address base = device.region().address + first_frame * frame;
  return {
      {base + page, page}, {base + 8 * frame, frame}, {base + 16 * frame - page, page + 2 * frame}};
}

inline Span elsewhere(Span span, std::size_t frames = 64) {
  return {span.address + frames * frame, span.bytes};
}

inline void evict(cuda::CudaDevice& device, Span block, Span parked) {
  device.move(block.address, parked.address, block.bytes, {});
}

inline Fence fence_on(cuda::CudaDevice& device, cuda::CUstream stream) {
  const cuda::CurrentStream current(stream);
  return device.fence();
}

inline Fences one(Fence fence) {
  Fences fences;
  fences.add(fence);
  return fences;
}

inline bool closed(Span span) {
  for (Address at = span.address; at < span.end(); at += page) {
    if (readable(at)) return false;
  }
  return true;
}

}  // namespace swapmem::test
