#include "fake_driver/entry.h"

#include <string>

namespace fake {

CUresult refused(World& world, const char* name, Needs needs) {
  if (in_user_code()) {
    return world.reports.misuse(std::string(name) + " called by a host function",
                                CUDA_ERROR_NOT_PERMITTED);
  }
  const CUresult wanted = world.faults.next(name);
  if (wanted != CUDA_SUCCESS) return wanted;
  if (needs == Needs::nothing) return CUDA_SUCCESS;
  if (!world.contexts.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (needs == Needs::initialised) return CUDA_SUCCESS;
  const Context* context = world.contexts.find(world.contexts.current());
  if (context == nullptr) {
    return world.reports.misuse(std::string(name) + " without a current context",
                                CUDA_ERROR_INVALID_CONTEXT);
  }
  return context->broken;
}

void queue_delay() {
  if (forked()) return;
  double seconds = 0;
  {
    Lock lock(driver_mutex());
    VirtualTime& time = the_world().time;
    seconds = time.delays.queue;
    time.serve(seconds);
  }
  if (seconds > 0) tell_of_delay();
}

CUresult usable(World& world, CUstream handle, const char* name, std::shared_ptr<Stream>* stream) {
  *stream = world.streams.find(handle);
  if (*stream == nullptr) {
    return world.reports.misuse(std::string(name) + " with a stream that does not exist",
                                CUDA_ERROR_INVALID_HANDLE);
  }
  if ((*stream)->context != world.contexts.current()) {
    return world.reports.misuse(std::string(name) + " with a stream of another context",
                                CUDA_ERROR_INVALID_HANDLE);
  }
  return CUDA_SUCCESS;
}

}  // namespace fake
