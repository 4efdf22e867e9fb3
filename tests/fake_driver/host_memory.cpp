#include "fake_driver/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <iterator>
#include <string>

#include "fake_driver/world.h"

namespace fake {

using namespace swapmem::cuda;

HostMemory::~HostMemory() {
  for (const auto& [address, registration] : registrations_) {
    if (registration.allocated) munmap(reinterpret_cast<void*>(address), registration.bytes);
  }
}

bool HostMemory::exists(std::uintptr_t address, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = address / page * page;
  const std::uintptr_t end = (address + bytes + page - 1) / page * page;
  std::vector<unsigned char> resident((end - begin) / page);
  return mincore(reinterpret_cast<void*>(begin), end - begin, resident.data()) == 0;
}

CUresult HostMemory::add(void* host, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(host);
  const std::string what =
      "cuMemHostRegister of " + std::to_string(bytes) + " bytes at " + hex(address);
  if (bytes == 0 || !exists(address, bytes)) {
    return world_.reports.misuse(what + ": there is no memory");
  }
  const auto next = registrations_.lower_bound(address);
  const bool meets_next = next != registrations_.end() && next->first < address + bytes;
  const bool meets_last = next != registrations_.begin() &&
                          std::prev(next)->first + std::prev(next)->second.bytes > address;
  if (meets_next || meets_last) {
    return world_.reports.misuse(what + ": registered already",
                                 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  }
  if (bytes > limit_bytes - bytes_) return CUDA_ERROR_OUT_OF_MEMORY;
  bytes_ += bytes;
  Registration& added = registrations_[address];
  added.bytes = bytes;
  added.context = world_.contexts.current();
  added.ready_seconds = world_.time.now();
  return CUDA_SUCCESS;
}

CUresult HostMemory::allocate(void** host, std::size_t bytes) {
  if (bytes == 0 || bytes > limit_bytes - bytes_) {
    return bytes == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
  }
  void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = add(found, bytes);
  if (result != CUDA_SUCCESS) {
    munmap(found, bytes);
    return result;
  }
  registrations_.find(reinterpret_cast<std::uintptr_t>(found))->second.allocated = true;
  *host = found;
  return CUDA_SUCCESS;
}

CUresult HostMemory::take(std::uintptr_t address, bool allocated, const char* call) {
  const auto found = registrations_.find(address);
  if (found == registrations_.end() || found->second.allocated != allocated) {
    return world_.reports.misuse(
        std::string(call) + " of " + hex(address) + ", which is not so",
        allocated ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  }
  world_.happens_before.taken(found->second.uses, FAKE_HOST_IN_USE,
                              std::string(call) + " of " + std::to_string(found->second.bytes) +
                                  " bytes at " + hex(address));
  bytes_ -= found->second.bytes;
  if (allocated) munmap(reinterpret_cast<void*>(address), found->second.bytes);
  registrations_.erase(found);
  return CUDA_SUCCESS;
}

CUresult HostMemory::remove(void* host) {
  return take(reinterpret_cast<std::uintptr_t>(host), false, "cuMemHostUnregister");
}

CUresult HostMemory::free(void* host) {
  return take(reinterpret_cast<std::uintptr_t>(host), true, "cuMemFreeHost");
}

Registration* HostMemory::find(std::uintptr_t address, std::size_t bytes, std::uintptr_t* begin) {
  auto found = registrations_.upper_bound(address);
  if (found == registrations_.begin()) return nullptr;
  --found;
  if (address + bytes > found->first + found->second.bytes) return nullptr;
  if (begin != nullptr) *begin = found->first;
  return &found->second;
}

void HostMemory::pieces(const Range& range, std::vector<Piece>& found) {
  std::uintptr_t begin = 0;
  Registration* registration = find(range.address, range.bytes, &begin);
  if (registration == nullptr) return;
  const std::size_t from = range.address - begin;
  found.push_back({&registration->shadow, from, from + range.bytes, &registration->uses,
                   registration->ready_seconds});
}

std::size_t HostMemory::forget(CUcontext context) {
  return std::erase_if(registrations_, [&](const auto& each) {
    if (each.second.context != context) return false;
    bytes_ -= each.second.bytes;
    return true;
  });
}

void HostMemory::count(FakeCounts* counts) const {
  for (const auto& [address, registration] : registrations_) {
    ++(registration.allocated ? counts->host_allocations : counts->registrations);
  }
  counts->registered_bytes = bytes_;
}

}  // namespace fake
