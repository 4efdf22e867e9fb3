// Initialisation, devices, contexts, names of errors.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "fake_driver/entry.h"

namespace fake {
namespace {

struct Error {
  CUresult result;
  const char* name;
  const char* text;
};

#define FAKE_ERROR(name, text) {name, #name, text}
constexpr Error errors[] = {
    FAKE_ERROR(CUDA_SUCCESS, "no error"),
    FAKE_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    FAKE_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    FAKE_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    FAKE_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    FAKE_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    FAKE_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    FAKE_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    FAKE_ERROR(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported"),
    FAKE_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    FAKE_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    FAKE_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    FAKE_ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    FAKE_ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "memory is already pinned"),
    FAKE_ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "memory is not pinned"),
    FAKE_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    FAKE_ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
    FAKE_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    FAKE_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef FAKE_ERROR

const Error* find(CUresult result) {
  const auto found = std::find_if(std::begin(errors), std::end(errors),
                                  [&](const Error& e) { return e.result == result; });
  return found == std::end(errors) ? nullptr : found;
}

CUresult describe(CUresult error, const char** text, const char* Error::* member) {
  const Error* found = find(error);
  *text = found == nullptr ? nullptr : found->*member;
  return found == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

// About a device that has to exist.
template <typename Body>
CUresult of_device(const char* name, CUdevice device, Body body) {
  return enter(name, Needs::initialised, [&](World& world, Lock& lock) {
    if (!world.contexts.device(device)) return CUDA_ERROR_INVALID_DEVICE;
    return body(world, lock);
  });
}

}  // namespace

CUresult cuGetErrorName(CUresult error, const char** text) {
  return describe(error, text, &Error::name);
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  return describe(error, text, &Error::text);
}

CUresult cuInit(unsigned flags) {
  return enter("cuInit", Needs::nothing, [&](World& world, Lock&) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (world.contexts.device_count == 0) return CUDA_ERROR_NO_DEVICE;
    world.contexts.initialised = true;
    initialised_here();
    return CUDA_SUCCESS;
  });
}

CUresult cuDriverGetVersion(int* version) {
  return enter("cuDriverGetVersion", Needs::nothing, [&](World& world, Lock&) {
    *version = world.contexts.version;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetCount(int* count) {
  return enter("cuDeviceGetCount", Needs::initialised, [&](World& world, Lock&) {
    *count = world.contexts.device_count;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return of_device("cuDeviceGet", ordinal, [&](World&, Lock&) {
    *device = ordinal;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetName(char* name, int capacity, CUdevice device) {
  return of_device("cuDeviceGetName", device, [&](World&, Lock&) {
    std::snprintf(name, static_cast<std::size_t>(capacity), "fake device %d", device);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetPCIBusId(char* id, int capacity, CUdevice device) {
  return of_device("cuDeviceGetPCIBusId", device, [&](World&, Lock&) {
    std::snprintf(id, static_cast<std::size_t>(capacity), "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  return of_device("cuDeviceTotalMem", device, [&](World& world, Lock&) {
    *bytes = world.contexts.memory_bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return of_device("cuDeviceGetAttribute", device, [&](World& world, Lock&) {
    switch (attribute) {
      case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        *value = world.contexts.virtual_memory ? 1 : 0;
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
        *value = world.time.rates.shared ? 1 : 2;
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = 9;
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        *value = device + 1;
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
        *value = -1;
        return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_INTEGRATED:
      case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
      case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
      case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
        *value = 0;
        return CUDA_SUCCESS;
      default:
        *value = 1;
        return CUDA_SUCCESS;
    }
  });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return of_device("cuDevicePrimaryCtxRetain", device, [&](World& world, Lock&) {
    *context = world.contexts.retain(device);
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return of_device("cuDevicePrimaryCtxRelease", device, [&](World& world, Lock& lock) {
    const CUcontext primary = world.contexts.primary(device);
    const Context* context = world.contexts.find(primary);
    if (context != nullptr && context->retained == 1) {
      for (const auto& work : world.streams.last_of(primary)) world.streams.wait(work, lock);
    }
    CUcontext ended = nullptr;
    const CUresult result = world.contexts.release(device, &ended);
    if (ended == nullptr) return result;
    const std::size_t lost = world.streams.forget(ended) + world.host_memory.forget(ended);
    if (lost != 0) {
      world.reports.misuse("cuDevicePrimaryCtxRelease destroyed " + std::to_string(lost) +
                           " streams, events and registrations");
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  return of_device("cuDevicePrimaryCtxGetState", device, [&](World& world, Lock&) {
    *flags = 0;
    *active = world.contexts.primary(device) != nullptr ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return enter("cuCtxPushCurrent", Needs::initialised, [&](World& world, Lock&) {
    if (world.contexts.find(context) == nullptr) {
      return world.reports.misuse("cuCtxPushCurrent of no context", CUDA_ERROR_INVALID_CONTEXT);
    }
    world.contexts.stack().push_back(context);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  return enter("cuCtxPopCurrent", Needs::initialised, [&](World& world, Lock&) {
    auto& stack = world.contexts.stack();
    if (stack.empty()) {
      return world.reports.misuse("cuCtxPopCurrent of an empty stack", CUDA_ERROR_INVALID_CONTEXT);
    }
    if (context != nullptr) *context = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return enter("cuCtxGetCurrent", Needs::initialised, [&](World& world, Lock&) {
    *context = world.contexts.current();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return enter("cuCtxSetCurrent", Needs::initialised, [&](World& world, Lock&) {
    auto& stack = world.contexts.stack();
    if (context != nullptr && world.contexts.find(context) == nullptr) {
      return world.reports.misuse("cuCtxSetCurrent to no context", CUDA_ERROR_INVALID_CONTEXT);
    }
    if (!stack.empty()) stack.pop_back();
    if (context != nullptr) stack.push_back(context);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return enter("cuCtxGetDevice", Needs::context, [&](World& world, Lock&) {
    *device = world.contexts.find(world.contexts.current())->device;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSynchronize() {
  return enter("cuCtxSynchronize", Needs::context, [&](World& world, Lock& lock) {
    const CUcontext current = world.contexts.current();
    for (const auto& work : world.streams.last_of(current)) world.streams.wait(work, lock);
    return world.contexts.find(current)->broken;
  });
}

}  // namespace fake
