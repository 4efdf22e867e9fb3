#include "cuda/handles.h"

#include <algorithm>
#include <string>

namespace swapmem::cuda {

CUmemAllocationProp device_memory(int ordinal) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, ordinal};
  return prop;
}

std::size_t granularity_bytes(const Driver& driver, int ordinal) {
  const CUmemAllocationProp prop = device_memory(ordinal);
  std::size_t bytes = 0;
  driver.check(
      driver.cuMemGetAllocationGranularity(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
      "cuMemGetAllocationGranularity");
  return bytes;
}

Handles::Handles(const Context& context, std::size_t page_bytes, std::size_t frame_bytes,
                 std::size_t cache_bytes)
    : context_(context), unit_bytes_{page_bytes, frame_bytes}, most_cached_bytes_(cache_bytes) {
  // So that giving a handle back does not have to allocate.
  cached(Unit::page).reserve(cache_bytes / page_bytes + 1);
  cached(Unit::frame).reserve(cache_bytes / frame_bytes + 1);
}

Handles::~Handles() {
  if (context_.forked()) return;
  for (const auto& handles : cached_) {
    for (const Handle handle : handles) context_.driver().cuMemRelease(handle);
  }
}

void Handles::use(std::size_t more) {
  std::lock_guard lock(mutex_);
  in_use_bytes_ += more;
  most_in_use_bytes_ = std::max(most_in_use_bytes_, in_use_bytes_);
}

void Handles::unuse(std::size_t less) {
  std::lock_guard lock(mutex_);
  in_use_bytes_ -= less;
}

Handle Handles::take(Unit unit, bool insist) {
  const Unit other = unit == Unit::page ? Unit::frame : Unit::page;
  Lock lock(mutex_);
  if (!cached(unit).empty()) {
    const Handle handle = cached(unit).back();
    cached(unit).pop_back();
    cached_bytes_ -= bytes(unit);
    return handle;
  }
  while (existing_bytes_ + bytes(unit) > most_in_use_bytes_) {
    if (release_cached(lock, other)) continue;
    if (!insist) return 0;
    break;
  }
  existing_bytes_ += bytes(unit);
  lock.unlock();
  try {
    return create(unit);
  } catch (...) {
    lock.lock();
    existing_bytes_ -= bytes(unit);
    throw;
  }
}

Handle Handles::create(Unit unit) {
  const Driver& driver = context_.driver();
  const CUmemAllocationProp prop = device_memory(context_.ordinal());
  Handle handle = 0;
  const CUresult result = driver.cuMemCreate(&handle, bytes(unit), &prop, 0);
  if (result == CUDA_SUCCESS) return handle;
  std::string call = "cuMemCreate of " + std::to_string(bytes(unit)) + " bytes with " +
                     std::to_string(existing_bytes()) + " bytes in use or on their way";
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  if (driver.cuMemGetInfo(&free_bytes, &total_bytes) == CUDA_SUCCESS) {
    call += ", " + std::to_string(free_bytes) + " of " + std::to_string(total_bytes) +
            " bytes free on CUDA device " + std::to_string(context_.ordinal());
  }
  driver.fail(result, call);
}

void Handles::give_back(Unit unit, Handle handle) noexcept {
  Lock lock(mutex_);
  const bool full = cached_bytes_ + bytes(unit) > most_cached_bytes_;
  try {
    cached(unit).push_back(handle);
    cached_bytes_ += bytes(unit);
  } catch (...) {
    context_.driver().cuMemRelease(handle);  // no memory to remember it
    existing_bytes_ -= bytes(unit);
    return;
  }
  if (full) release_cached(lock, unit);
}

// False if there is none, or if the driver refuses: the handle is then cached as before.
bool Handles::release_cached(Lock& lock, Unit unit) noexcept {
  if (cached(unit).empty()) return false;
  const Handle handle = cached(unit).back();
  cached(unit).pop_back();
  cached_bytes_ -= bytes(unit);
  lock.unlock();
  const bool released = context_.driver().cuMemRelease(handle) == CUDA_SUCCESS;
  lock.lock();
  if (!released) {
    try {
      cached(unit).push_back(handle);
      cached_bytes_ += bytes(unit);
      return false;
    } catch (...) {
      // No memory to remember it.
    }
  }
  existing_bytes_ -= bytes(unit);
  return released;
}

void Handles::trim() noexcept {
  Lock lock(mutex_);
  while (release_cached(lock, Unit::frame) || release_cached(lock, Unit::page)) {
  }
}

std::size_t Handles::in_use_bytes() const {
  std::lock_guard lock(mutex_);
  return in_use_bytes_;
}

std::size_t Handles::cached_bytes() const {
  std::lock_guard lock(mutex_);
  return cached_bytes_;
}

std::size_t Handles::existing_bytes() const {
  std::lock_guard lock(mutex_);
  return existing_bytes_;
}

}  // namespace swapmem::cuda
