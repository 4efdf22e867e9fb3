// Virtual memory management, allocations, registered host memory, questions about addresses.
#include <cstring>
#include <string>

#include "fake_driver/entry.h"

namespace fake {
namespace {

CUresult bad_property(World& world, const CUmemAllocationProp* prop, const char* name) {
  if (prop == nullptr || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
      prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return world.reports.misuse(std::string(name) + " of another kind of memory");
  }
  if (!world.contexts.virtual_memory) return CUDA_ERROR_NOT_SUPPORTED;
  return world.contexts.device(prop->location.id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult allocate(const char* name, CUdeviceptr* address, std::size_t bytes, bool managed) {
  return enter(name, Needs::context, [&](World& world, Lock&) {
    const int device = world.contexts.find(world.contexts.current())->device;
    return world.device_memory.allocate(address, bytes, device, managed);
  });
}

struct Place {
  DeviceMemory::Found device;
  const Registration* host = nullptr;
  std::uintptr_t host_begin = 0;
  CUcontext context = nullptr;

  bool known() const { return device.bytes != 0 || host != nullptr; }
};

Place find(World& world, CUdeviceptr address) {
  Place place;
  place.device = world.device_memory.find(address);
  place.host = world.host_memory.find(address, 1, &place.host_begin);
  if (place.host != nullptr) place.context = place.host->context;
  const Mapping* mapping = place.device.mapping;
  if (mapping != nullptr && mapping->asked_bytes != 0) {
    place.context = world.contexts.primary(mapping->handle->device);
  }
  return place;
}

template <typename T>
CUresult give(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

CUresult attribute_of(World& world, const Place& place, CUpointer_attribute attribute,
                      CUdeviceptr address, void* data) {
  const Mapping* mapping = place.device.mapping;
  const bool on_host = place.host != nullptr;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return give(data, place.context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give(data, static_cast<unsigned>(on_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return give(data, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!on_host && (mapping == nullptr || !mapping->managed)) return CUDA_ERROR_INVALID_VALUE;
      return give(data, address);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return give(data, mapping != nullptr && mapping->managed ? 1u : 0u);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: {
      const Context* context = on_host ? world.contexts.find(place.context) : nullptr;
      if (mapping != nullptr) return give(data, mapping->handle->device);
      return give(data, context != nullptr ? context->device : -1);
    }
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return give(data, on_host ? CUdeviceptr{place.host_begin} : place.device.address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return give(data, on_host ? place.host->bytes : place.device.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return give(data, on_host || mapping != nullptr);
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

}  // namespace

CUresult cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total_bytes) {
  return enter("cuMemGetInfo", Needs::context, [&](World& world, Lock&) {
    const int device = world.contexts.find(world.contexts.current())->device;
    *total_bytes = world.contexts.memory_bytes;
    *free_bytes = *total_bytes - world.device_memory.used_bytes(device);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAddressReserve(CUdeviceptr* address, std::size_t bytes, std::size_t alignment,
                             CUdeviceptr, unsigned long long flags) {
  return enter("cuMemAddressReserve", Needs::initialised, [&](World& world, Lock&) {
    if (flags != 0) return world.reports.misuse("cuMemAddressReserve with flags");
    return world.device_memory.reserve(address, bytes, alignment);
  });
}

CUresult cuMemAddressFree(CUdeviceptr address, std::size_t bytes) {
  return enter("cuMemAddressFree", Needs::initialised, [&](World& world, Lock&) {
    return world.device_memory.free_reservation(address, bytes);
  });
}

CUresult cuMemGetAllocationGranularity(std::size_t* bytes, const CUmemAllocationProp* prop,
                                       CUmemAllocationGranularity_flags) {
  const char* name = "cuMemGetAllocationGranularity";
  return enter(name, Needs::initialised, [&](World& world, Lock&) {
    *bytes = world.device_memory.granularity_bytes;
    return bad_property(world, prop, name);
  });
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                     const CUmemAllocationProp* prop, unsigned long long flags) {
  return enter("cuMemCreate", Needs::initialised, [&](World& world, Lock&) {
    if (flags != 0) return world.reports.misuse("cuMemCreate with flags");
    const CUresult bad = bad_property(world, prop, "cuMemCreate");
    if (bad != CUDA_SUCCESS) return bad;
    return world.device_memory.create(handle, bytes, prop->location.id);
  });
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  return enter("cuMemRelease", Needs::initialised,
               [&](World& world, Lock&) { return world.device_memory.release(handle); });
}

CUresult cuMemMap(CUdeviceptr address, std::size_t bytes, std::size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long flags) {
  return enter("cuMemMap", Needs::initialised, [&](World& world, Lock&) {
    if (flags != 0) return world.reports.misuse("cuMemMap with flags");
    return world.device_memory.map(address, bytes, offset, handle);
  });
}

CUresult cuMemUnmap(CUdeviceptr address, std::size_t bytes) {
  return enter("cuMemUnmap", Needs::initialised,
               [&](World& world, Lock&) { return world.device_memory.unmap(address, bytes); });
}

CUresult cuMemSetAccess(CUdeviceptr address, std::size_t bytes, const CUmemAccessDesc* desc,
                        std::size_t count) {
  return enter("cuMemSetAccess", Needs::initialised, [&](World& world, Lock&) {
    return world.device_memory.set_access(address, bytes, desc, count);
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
  return allocate("cuMemAlloc", address, bytes, false);
}

CUresult cuMemAllocManaged(CUdeviceptr* address, std::size_t bytes, unsigned flags) {
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return allocate("cuMemAllocManaged", address, bytes, true);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return enter("cuMemFree", Needs::context,
               [&](World& world, Lock&) { return world.device_memory.free(address); });
}

CUresult cuMemHostAlloc(void** host, std::size_t bytes, unsigned) {
  return enter("cuMemHostAlloc", Needs::context,
               [&](World& world, Lock&) { return world.host_memory.allocate(host, bytes); });
}

CUresult cuMemFreeHost(void* host) {
  return enter("cuMemFreeHost", Needs::context,
               [&](World& world, Lock&) { return world.host_memory.free(host); });
}

CUresult cuMemHostRegister_v2(void* host, std::size_t bytes, unsigned) {
  return enter("cuMemHostRegister", Needs::context,
               [&](World& world, Lock&) { return world.host_memory.add(host, bytes); });
}

CUresult cuMemHostUnregister(void* host) {
  return enter("cuMemHostUnregister", Needs::context,
               [&](World& world, Lock&) { return world.host_memory.remove(host); });
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
  return enter("cuPointerGetAttribute", Needs::initialised, [&](World& world, Lock&) {
    const Place place = find(world, address);
    if (!place.known()) return CUDA_ERROR_INVALID_VALUE;
    return attribute_of(world, place, attribute, address, data);
  });
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr address) {
  return enter("cuPointerGetAttributes", Needs::initialised, [&](World& world, Lock&) {
    const Place place = find(world, address);
    for (unsigned i = 0; place.known() && i < count; ++i) {
      attribute_of(world, place, attributes[i], address, data[i]);
    }
    return CUDA_SUCCESS;
  });
}

}  // namespace fake
