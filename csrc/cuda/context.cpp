#include "cuda/context.h"

#include <unistd.h>

namespace swapmem::cuda {

Context::Context(int ordinal)
    : driver_(cuda::driver()),
      ordinal_(ordinal),
      process_(getpid()),
      device_(driver_.device(ordinal)) {
  driver_.check(driver_.cuDevicePrimaryCtxRetain(&handle_, device_), "cuDevicePrimaryCtxRetain");
}

Context::~Context() {
  if (!forked()) driver_.cuDevicePrimaryCtxRelease(device_);
}

bool Context::forked() const {
  return getpid() != process_;
}

Context::Scope::Scope(const Context& context) : driver_(context.driver_) {
  if (context.forked()) {
    throw DeviceError("CUDA was initialised before this process was forked; it cannot be used here",
                      CUDA_ERROR_NOT_INITIALIZED);
  }
  CUcontext current = nullptr;
  driver_.check(driver_.cuCtxGetCurrent(&current), "cuCtxGetCurrent");
  if (current == context.handle_) return;
  driver_.check(driver_.cuCtxPushCurrent(context.handle_), "cuCtxPushCurrent");
  pushed_ = true;
}

Context::Scope::~Scope() {
  CUcontext popped = nullptr;
  if (pushed_) driver_.cuCtxPopCurrent(&popped);
}

}  // namespace swapmem::cuda
