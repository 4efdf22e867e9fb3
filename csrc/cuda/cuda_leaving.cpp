// CUDA device: mappings and memory that go once nothing uses them.
#include <algorithm>

#include "cuda/cuda_device.h"

namespace swapmem::cuda {

// They go at once if their last use has passed and the driver does not refuse.
void CudaDevice::leave(LeavingList& old) {
  if (!old.front().parts.empty()) finish_if_passed(hand_over(old));
}

// They go with a later call.
void CudaDevice::put_off(LeavingList& old) {
  if (old.front().parts.empty()) return;
  old.front().taken = false;
  hand_over(old);
}

CudaDevice::LeavingList::iterator CudaDevice::hand_over(LeavingList& old) {
  Leaving& leaving = old.front();
  std::size_t bytes = 0;
  for (const Old& part : leaving.parts) {
    if (part.handle == 0) continue;
    leaving.memory = true;
    bytes += handles_.bytes(part.unit);
  }
  leaving.span.address = leaving.parts.front().address;
  leaving.span.bytes = leaving.parts.back().address + handles_.bytes(leaving.parts.back().unit) -
                       leaving.span.address;
  const auto place = old.begin();
  {
    Lock lock(mutex_);
    leaving_.splice(leaving_.end(), old);
  }
  handles_.unuse(bytes);  // not before others can find it and wait for it
  return place;
}

// Sees to what the calling thread has taken; it is then gone, or, after an error, not taken any
// more.
void CudaDevice::finish(LeavingList::iterator leaving, bool waiting) {
  const Driver& driver = context_->driver();
  std::vector<Old>& parts = leaving->parts;
  try {
    if (waiting) {
      for (const Fence fence : leaving->last_use) streams_->wait(fence);
    }
    while (!parts.empty()) {
      Old& part = parts.back();
      if (part.mapped) {
        driver.check(driver.cuMemUnmap(part.address, handles_.bytes(part.unit)), "cuMemUnmap");
      }
      if (part.handle != 0) handles_.give_back(part.unit, part.handle);
      parts.pop_back();
    }
  } catch (...) {
    untake(leaving);
    throw;
  }
  Lock lock(mutex_);
  leaving_.erase(leaving);
  finished_.notify_all();
}

// The same without waiting; whether it is gone.
bool CudaDevice::finish_if_passed(LeavingList::iterator leaving) {
  if (!passed(leaving->last_use)) {
    untake(leaving);
    return false;
  }
  try {
    finish(leaving, false);
  } catch (const DeviceError&) {
    return false;  // who needs the place, or the memory, tries again and is told
  }
  return true;
}

void CudaDevice::untake(LeavingList::iterator leaving) {
  Lock lock(mutex_);
  leaving->taken = false;
  finished_.notify_all();
}

bool CudaDevice::passed(const Fences& fences) {
  try {
    return std::all_of(fences.begin(), fences.end(),
                       [&](Fence fence) { return streams_->passed(fence); });
  } catch (...) {
    return false;  // the driver refuses, or there is no memory: who has to wait for it is told
  }
}

// What nobody waits for is seen to on the way of other calls, the oldest first.
void CudaDevice::finish_passed() {
  for (;;) {
    LeavingList::iterator oldest;
    {
      Lock lock(mutex_);
      if (leaving_.empty() || leaving_.front().taken) return;
      oldest = leaving_.begin();
      oldest->taken = true;
    }
    if (!finish_if_passed(oldest)) return;
  }
}

// The same for all that can go: what was put off last does not wait for what came before it.
void CudaDevice::finish_all_passed() {
  std::uint64_t tidying = 0;
  {
    Lock lock(mutex_);
    tidying = ++last_tidying_;
  }
  for (;;) {
    LeavingList::iterator next;
    {
      Lock lock(mutex_);
      next = std::find_if(leaving_.begin(), leaving_.end(), [&](const Leaving& leaving) {
        return !leaving.taken && leaving.asked_by < tidying;
      });
      if (next == leaving_.end()) return;
      next->taken = true;
      next->asked_by = tidying;
    }
    finish_if_passed(next);
  }
}

// Returns when no old mapping is left in the span.
void CudaDevice::finish_at(Span span) {
  Lock lock(mutex_);
  for (;;) {
    const auto found = std::find_if(leaving_.begin(), leaving_.end(), [&](const Leaving& leaving) {
      return leaving.span.address < span.end() && span.address < leaving.span.end();
    });
    if (found == leaving_.end()) return;
    if (found->taken) {
      finished_.wait(lock);
      continue;
    }
    found->taken = true;
    lock.unlock();
    finish(found, true);
    lock.lock();
  }
}

// Waits until memory that leaves has gone. False if there is none.
bool CudaDevice::finish_one_with_memory() {
  Lock lock(mutex_);
  const auto found = std::find_if(leaving_.begin(), leaving_.end(),
                                  [](const Leaving& leaving) { return leaving.memory; });
  if (found == leaving_.end()) return false;
  if (found->taken) {
    finished_.wait(lock);
    return true;
  }
  found->taken = true;
  lock.unlock();
  finish(found, true);
  return true;
}

}  // namespace swapmem::cuda
