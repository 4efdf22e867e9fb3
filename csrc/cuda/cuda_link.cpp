#include "cuda/cuda_link.h"

#include <mutex>
#include <string>
#include <utility>

namespace swapmem::cuda {

namespace {

CUdeviceptr pointer(const void* device) {
  return reinterpret_cast<Address>(device);
}

}  // namespace

CudaLink::CudaLink(std::shared_ptr<const Context> context, std::shared_ptr<Streams> streams)
    : context_(std::move(context)), streams_(std::move(streams)) {
  const Driver& driver = context_->driver();
  const Context::Scope scope(*context_);
  driver.check(driver.cuStreamCreate(&out_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  const CUresult result = driver.cuStreamCreate(&in_, CU_STREAM_NON_BLOCKING);
  if (result == CUDA_SUCCESS) return;
  driver.cuStreamDestroy(out_);
  driver.fail(result, "cuStreamCreate");
}

CudaLink::~CudaLink() {
  if (context_->forked()) return;
  while (!pinned_.empty()) {
    unpin(reinterpret_cast<void*>(pinned_.begin()->first), pinned_.begin()->second);
  }
  try {
    const Context::Scope scope(*context_);
    context_->driver().cuStreamDestroy(out_);
    context_->driver().cuStreamDestroy(in_);
  } catch (const DeviceError&) {
    // The context is lost, and they with it.
  }
}

void CudaLink::pin(void* host, std::size_t bytes) {
  const Driver& driver = context_->driver();
  const Address address = reinterpret_cast<Address>(host);
  std::unique_lock lock(mutex_);
  const auto [place, added] = pinned_.emplace(address, 0);  // first: it may throw
  lock.unlock();
  if (!added) {
    throw DeviceError("host memory that is pinned already",
                      CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  }
  try {
    const Context::Scope scope(*context_);
    const CUresult result = driver.cuMemHostRegister(host, bytes, CU_MEMHOSTREGISTER_PORTABLE);
    if (result != CUDA_SUCCESS) {
      driver.fail(result, "cuMemHostRegister of " + std::to_string(bytes) +
                              " bytes (the limit may be the memory that is free, ulimit -l or that "
                              "of a container)");
    }
  } catch (...) {
    lock.lock();
    pinned_.erase(place);
    throw;
  }
  lock.lock();
  place->second = bytes;
}

// An error has no one to be told to: the memory stays pinned, and its owner goes on without it.
void CudaLink::unpin(void* host, std::size_t) noexcept {
  {
    std::unique_lock lock(mutex_);
    pinned_.erase(reinterpret_cast<Address>(host));
  }
  if (context_->forked()) return;
  try {
    const Context::Scope scope(*context_);
    context_->driver().cuMemHostUnregister(host);
  } catch (const DeviceError&) {
  }
}

void CudaLink::check_pinned(const void* host, std::size_t bytes) const {
  const Address address = reinterpret_cast<Address>(host);
  std::shared_lock lock(mutex_);
  auto found = pinned_.upper_bound(address);
  if (found != pinned_.begin()) {
    --found;
    const std::size_t before = address - found->first;
    if (before <= found->second && bytes <= found->second - before) return;
  }
  throw DeviceError("a copy of " + std::to_string(bytes) +
                        " bytes from or to host memory that is not "
                        "pinned",
                    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

void CudaLink::copy_out(void* host, const void* device, std::size_t bytes) {
  check_pinned(host, bytes);
  const Driver& driver = context_->driver();
  const Context::Scope scope(*context_);
  driver.check(driver.cuMemcpyDtoHAsync(host, pointer(device), bytes, out_), "cuMemcpyDtoHAsync");
  finish(out_, {});
}

void CudaLink::copy_in(void* device, const void* host, std::size_t bytes, const Queued& queued) {
  check_pinned(host, bytes);
  const Driver& driver = context_->driver();
  const Context::Scope scope(*context_);
  driver.check(driver.cuMemcpyHtoDAsync(pointer(device), host, bytes, in_), "cuMemcpyHtoDAsync");
  finish(in_, queued);
}

// Waits for a copy that was just queued. Whatever fails then, the copy has ended when this returns
// or throws: the memory has another owner afterwards.
void CudaLink::finish(CUstream stream, const Queued& queued) {
  try {
    const CurrentStream current(stream);
    const Fence fence = streams_->fence();
    if (queued) queued(fence);
    streams_->wait(fence);
  } catch (...) {
    context_->driver().check(context_->driver().cuStreamSynchronize(stream), "cuStreamSynchronize");
  }
}

}  // namespace swapmem::cuda
