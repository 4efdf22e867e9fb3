// How every function of the driver begins.
#pragma once

#include <exception>

#include "fake_driver/world.h"

#define FAKE_DECLARE(name, symbol, parameters) FAKE_API swapmem::cuda::CUresult symbol parameters;
namespace fake {
using namespace swapmem::cuda;
SWAPMEM_CUDA_FUNCTIONS(FAKE_DECLARE)
SWAPMEM_CUDA_NEW_FUNCTIONS(FAKE_DECLARE)
}  // namespace fake
#undef FAKE_DECLARE

namespace fake {

enum class Needs {
  nothing,
  initialised,
  context,  // one that is current and not broken
};

// What has to be refused before the function itself begins, or CUDA_SUCCESS.
CUresult refused(World& world, const char* name, Needs needs);

// As far as it goes with the lock held; `delayed` tells whether it took the calling thread time.
template <typename Body>
CUresult call(const char* name, Needs needs, Body body, bool& delayed) {
  Lock lock(driver_mutex());
  World& world = the_world();
  CUresult result = refused(world, name, needs);
  if (result != CUDA_SUCCESS) return result;
  const double begun_seconds = world.time.now();
  try {
    result = body(world, lock);
  } catch (const std::exception&) {
    result = CUDA_ERROR_OPERATING_SYSTEM;
  }
  delayed = world.time.now() > begun_seconds;
  return result;
}

// To those who run threads in the order of virtual time.
inline void tell_of_delay() {
  if (void (*const tell)() = on_delay(); tell != nullptr) tell();
}

// What it takes to queue a copy, before that has any effect: who comes earlier goes first.
void queue_delay();

template <typename Body>
CUresult enter(const char* name, Needs needs, Body body) {
  if (forked()) return CUDA_ERROR_NOT_INITIALIZED;
  bool delayed = false;
  const CUresult result = call(name, needs, body, delayed);
  if (delayed) tell_of_delay();
  return result;
}

// A stream that work may be given to: it exists and belongs to the current context.
CUresult usable(World& world, CUstream handle, const char* name, std::shared_ptr<Stream>* stream);

}  // namespace fake
