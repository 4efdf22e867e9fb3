#include "fake_driver/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "fake_driver/world.h"

namespace fake {

using namespace swapmem::cuda;

namespace {

void* pointer(CUdeviceptr address) {
  return reinterpret_cast<void*>(address);
}

std::string at(CUdeviceptr address, std::size_t bytes) {
  return std::to_string(bytes) + " bytes at " + hex(address);
}

}  // namespace

DeviceMemory::~DeviceMemory() {
  for (const auto& [address, mapping] : mappings_) {
    if (mapping.asked_bytes != 0) munmap(pointer(address), mapping.bytes);
  }
  for (const auto& [address, bytes] : reservations_) munmap(pointer(address), bytes);
}

CUresult DeviceMemory::reserve(CUdeviceptr* address, std::size_t bytes, std::size_t alignment) {
  const bool power_of_two = (alignment & (alignment - 1)) == 0;
  if (bytes == 0 || !aligned(bytes) || !power_of_two) {
    return world_.reports.misuse("cuMemAddressReserve of " + std::to_string(bytes) +
                                 " bytes, aligned to " + std::to_string(alignment));
  }
  void* found = Physical::reserve(bytes, std::max(alignment, granularity_bytes));
  if (found == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = reinterpret_cast<CUdeviceptr>(found);
  reservations_[*address] = bytes;
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::free_reservation(CUdeviceptr address, std::size_t bytes) {
  const auto found = reservations_.find(address);
  if (found == reservations_.end() || found->second != bytes) {
    return world_.reports.misuse("cuMemAddressFree of what was not reserved so: " +
                                 at(address, bytes));
  }
  const auto mapped = mappings_.lower_bound(address);
  if (mapped != mappings_.end() && mapped->first < address + bytes) {
    return world_.reports.misuse("cuMemAddressFree while memory is mapped at " +
                                 hex(mapped->first));
  }
  munmap(pointer(address), bytes);
  reservations_.erase(found);
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::create(Id* id, std::size_t bytes, int device) {
  if (bytes == 0 || !aligned(bytes)) {
    return world_.reports.misuse("cuMemCreate of " + std::to_string(bytes) + " bytes");
  }
  if (used_bytes(device) + bytes > world_.contexts.memory_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  auto handle = std::make_shared<Handle>();
  handle->device = device;
  handle->bytes = bytes;
  handle->at = physical_.allocate(bytes, garbage);
  used_bytes_[device] += bytes;
  world_.time.serve(world_.time.costs.create);
  handle->ready_seconds = world_.time.now();
  *id = next_id_++;
  handles_[*id] = std::move(handle);
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::release(Id id) {
  const auto found = handles_.find(id);
  if (found == handles_.end()) {
    return world_.reports.misuse("cuMemRelease of no handle: " + hex(id));
  }
  Handle& handle = *found->second;
  handle.released = true;
  world_.time.not_before(handle.ready_seconds);
  world_.time.serve(world_.time.costs.release);
  if (handle.mappings == 0) give_back(handle);
  handles_.erase(found);
  return CUDA_SUCCESS;
}

void DeviceMemory::give_back(Handle& handle) {
  physical_.release(handle.at, handle.bytes);
  used_bytes_[handle.device] -= handle.bytes;
}

CUresult DeviceMemory::map(CUdeviceptr address, std::size_t bytes, std::size_t offset, Id id) {
  const std::string what = "cuMemMap of " + at(address, bytes);
  const auto found = handles_.find(id);
  if (found == handles_.end()) return world_.reports.misuse(what + ": no handle " + hex(id));
  const std::shared_ptr<Handle>& handle = found->second;
  if (bytes == 0 || !aligned(bytes) || !aligned(address) || bytes > handle->bytes) {
    return world_.reports.misuse(what + ": not aligned, or not in the handle");
  }
  if (offset != 0) return world_.reports.misuse(what + ": offset is not 0");
  auto reserved = reservations_.upper_bound(address);
  if (reserved == reservations_.begin() ||
      (--reserved)->first + reserved->second < address + bytes) {
    return world_.reports.misuse(what + ": not reserved");
  }
  const auto next = mappings_.lower_bound(address);
  const bool meets_next = next != mappings_.end() && next->first < address + bytes;
  const bool meets_last =
      next != mappings_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address;
  if (meets_next || meets_last) return world_.reports.misuse(what + ": mapped already");

  physical_.map(pointer(address), bytes, handle->at, PROT_NONE);
  ++handle->mappings;
  world_.time.not_before(handle->ready_seconds);
  world_.time.serve(world_.time.costs.map);
  Mapping& mapping = mappings_[address];
  mapping.bytes = bytes;
  mapping.handle = handle;
  mapping.ready_seconds = world_.time.now();
  return CUDA_SUCCESS;
}

std::vector<DeviceMemory::Mappings::iterator> DeviceMemory::whole(CUdeviceptr address,
                                                                  std::size_t bytes) {
  std::vector<Mappings::iterator> all;
  CUdeviceptr end = address;
  for (auto mapping = mappings_.find(address); end < address + bytes; ++mapping) {
    if (mapping == mappings_.end() || mapping->first != end) return {};
    if (mapping->second.asked_bytes != 0) return {};
    all.push_back(mapping);
    end += mapping->second.bytes;
  }
  if (end != address + bytes) return {};
  return all;
}

CUresult DeviceMemory::unmap(CUdeviceptr address, std::size_t bytes) {
  const auto all = whole(address, bytes);
  if (all.empty()) {
    return world_.reports.misuse("cuMemUnmap of what is not mapped as a whole: " +
                                 at(address, bytes));
  }
  for (const auto& mapping : all) {
    world_.happens_before.taken(mapping->second.uses, FAKE_MEMORY_IN_USE,
                                "cuMemUnmap of " + at(mapping->first, mapping->second.bytes));
    world_.time.not_before(mapping->second.ready_seconds);
  }
  world_.time.serve(world_.time.costs.unmap, all.size());
  for (const auto& mapping : all) take_away(mapping);
  return CUDA_SUCCESS;
}

void DeviceMemory::take_away(Mappings::iterator mapping) {
  Physical::hide(pointer(mapping->first), mapping->second.bytes);
  const std::shared_ptr<Handle> handle = mapping->second.handle;
  mappings_.erase(mapping);
  handle->ready_seconds = std::max(handle->ready_seconds, world_.time.now());
  if (--handle->mappings == 0 && handle->released) give_back(*handle);
}

CUresult DeviceMemory::set_access(CUdeviceptr address, std::size_t bytes,
                                  const CUmemAccessDesc* desc, std::size_t count) {
  const auto all = whole(address, bytes);
  if (all.empty() || desc == nullptr || count == 0) {
    return world_.reports.misuse("cuMemSetAccess of what is not mapped as a whole: " +
                                 at(address, bytes));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const CUmemLocation& location = desc[i].location;
    if (location.type != CU_MEM_LOCATION_TYPE_DEVICE || !world_.contexts.device(location.id)) {
      return world_.reports.misuse("cuMemSetAccess for no device", CUDA_ERROR_INVALID_DEVICE);
    }
  }
  for (const auto& mapping : all) world_.time.not_before(mapping->second.ready_seconds);
  world_.time.serve(world_.time.costs.set_access, all.size());
  for (const auto& mapping : all) {
    for (std::size_t i = 0; i < count; ++i) {
      mapping->second.access[desc[i].location.id] = desc[i].flags;
    }
    mapping->second.ready_seconds = world_.time.now();
    mprotect(pointer(mapping->first), mapping->second.bytes, protection(mapping->second));
  }
  return CUDA_SUCCESS;
}

int DeviceMemory::protection(const Mapping& mapping) {
  int all = PROT_NONE;
  for (const auto& [device, flags] : mapping.access) {
    if (flags & CU_MEM_ACCESS_FLAGS_PROT_READ) all |= PROT_READ;
    if (flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE) all |= PROT_WRITE;
  }
  return all;
}

CUresult DeviceMemory::allocate(CUdeviceptr* address, std::size_t bytes, int device, bool managed) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const std::size_t whole_bytes =
      (bytes + granularity_bytes - 1) / granularity_bytes * granularity_bytes;
  if (used_bytes(device) + whole_bytes > world_.contexts.memory_bytes) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  void* found = Physical::reserve(whole_bytes, granularity_bytes);
  if (found == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  auto handle = std::make_shared<Handle>();
  handle->device = device;
  handle->bytes = whole_bytes;
  handle->at = physical_.allocate(whole_bytes, garbage);
  handle->mappings = 1;
  handle->released = true;
  used_bytes_[device] += whole_bytes;
  physical_.map(found, whole_bytes, handle->at, PROT_READ | PROT_WRITE);
  *address = reinterpret_cast<CUdeviceptr>(found);
  Mapping& mapping = mappings_[*address];
  mapping.bytes = whole_bytes;
  mapping.handle = std::move(handle);
  mapping.access[device] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  mapping.asked_bytes = bytes;
  mapping.managed = managed;
  mapping.ready_seconds = world_.time.now();
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::free(CUdeviceptr address) {
  const auto found = mappings_.find(address);
  if (found == mappings_.end() || found->second.asked_bytes == 0) {
    return world_.reports.misuse("cuMemFree of what cuMemAlloc did not give: " + hex(address));
  }
  world_.happens_before.taken(found->second.uses, FAKE_MEMORY_IN_USE,
                              "cuMemFree of " + at(address, found->second.asked_bytes));
  const std::size_t bytes = found->second.bytes;
  take_away(found);
  munmap(pointer(address), bytes);
  return CUDA_SUCCESS;
}

bool DeviceMemory::accessible(const Range& range, int device) const {
  auto mapping = mappings_.upper_bound(range.address);
  if (mapping == mappings_.begin()) return range.bytes == 0;
  --mapping;
  const CUdeviceptr end = range.address + range.bytes;
  for (CUdeviceptr reached = range.address; reached < end; ++mapping) {
    if (mapping == mappings_.end() || mapping->first > reached) return false;
    if (mapping->first + mapping->second.bytes <= reached) return false;
    const auto granted = mapping->second.access.find(device);
    if (granted == mapping->second.access.end()) return false;
    const int needed =
        range.write ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_READ;
    if ((granted->second & needed) != needed) return false;
    reached = mapping->first + mapping->second.bytes;
  }
  return true;
}

void DeviceMemory::pieces(const Range& range, std::vector<Piece>& found) {
  auto mapping = mappings_.upper_bound(range.address);
  if (mapping != mappings_.begin()) --mapping;
  const CUdeviceptr end = range.address + range.bytes;
  for (; mapping != mappings_.end() && mapping->first < end; ++mapping) {
    Mapping& part = mapping->second;
    const CUdeviceptr from = std::max(mapping->first, range.address);
    const CUdeviceptr to = std::min(mapping->first + part.bytes, end);
    if (from >= to) continue;
    found.push_back({&part.handle->shadow, from - mapping->first, to - mapping->first, &part.uses,
                     part.ready_seconds});
  }
}

DeviceMemory::Found DeviceMemory::find(CUdeviceptr address) const {
  auto mapping = mappings_.upper_bound(address);
  if (mapping != mappings_.begin()) {
    --mapping;
    const Mapping& m = mapping->second;
    if (address - mapping->first < m.bytes) {
      return {mapping->first, m.asked_bytes != 0 ? m.asked_bytes : m.bytes, &m};
    }
  }
  auto reserved = reservations_.upper_bound(address);
  if (reserved != reservations_.begin()) {
    --reserved;
    if (address - reserved->first < reserved->second)
      return {reserved->first, reserved->second, nullptr};
  }
  return {};
}

std::size_t DeviceMemory::used_bytes(int device) const {
  const auto found = used_bytes_.find(device);
  return found == used_bytes_.end() ? 0 : found->second;
}

void DeviceMemory::count(FakeCounts* counts) const {
  counts->handles = handles_.size();
  for (const auto& [id, handle] : handles_) counts->handle_bytes += handle->bytes;
  counts->reservations = reservations_.size();
  for (const auto& [address, mapping] : mappings_) {
    ++(mapping.asked_bytes != 0 ? counts->allocations : counts->mappings);
  }
}

}  // namespace fake
