#include "bindings/cuda_runtime.h"

#include <pthread.h>

#include <cerrno>
#include <mutex>
#include <utility>

#include "core/errors.h"

namespace swapmem {

namespace {

std::atomic<bool> forked{false};
std::once_flag watching;

}  // namespace

CudaRuntime::CudaRuntime(std::unique_ptr<Engine> engine) : Runtime(std::move(engine)) {
  std::call_once(watching, [] { pthread_atfork(nullptr, nullptr, [] { forked = true; }); });
}

CudaRuntime::~CudaRuntime() {
  if (in_forked_child()) abandon_engine();
}

bool CudaRuntime::in_forked_child() const {
  return forked.load(std::memory_order_relaxed);
}

Engine& CudaRuntime::moving_engine() {
  if (in_forked_child()) {
    throw DeviceError(
        "CUDA cannot be used in a child that was forked after its parent used it; start the child "
        "with forkserver or spawn",
        ECHILD);
  }
  return engine();
}

}  // namespace swapmem
