#include "fake_driver/contexts.h"

#include "fake_driver/world.h"

namespace fake {

using namespace swapmem::cuda;

CUcontext Contexts::primary(int device) const {
  for (const auto& [handle, context] : contexts_) {
    if (context.device == device) return handle;
  }
  return nullptr;
}

CUcontext Contexts::retain(int device) {
  CUcontext handle = primary(device);
  if (handle == nullptr) {
    handle = reinterpret_cast<CUcontext>(next_ += 0x10);
    contexts_[handle].device = device;
  }
  ++contexts_[handle].retained;
  return handle;
}

CUresult Contexts::release(int device, CUcontext* ended) {
  const CUcontext handle = primary(device);
  *ended = nullptr;
  if (handle == nullptr) {
    return world_.reports.misuse("cuDevicePrimaryCtxRelease of what is not retained",
                                 CUDA_ERROR_INVALID_CONTEXT);
  }
  if (--contexts_[handle].retained == 0) {
    contexts_.erase(handle);
    *ended = handle;
  }
  return CUDA_SUCCESS;
}

Context* Contexts::find(CUcontext context) {
  const auto found = contexts_.find(context);
  return found == contexts_.end() ? nullptr : &found->second;
}

std::size_t Contexts::retained() const {
  std::size_t all = 0;
  for (const auto& [handle, context] : contexts_) all += static_cast<std::size_t>(context.retained);
  return all;
}

std::vector<CUcontext>& Contexts::stack() {
  thread_local std::uint64_t life = 0;
  thread_local std::vector<CUcontext> stack;
  if (life != world_.time.life()) {
    life = world_.time.life();
    stack.clear();
  }
  return stack;
}

}  // namespace fake
