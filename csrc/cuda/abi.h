// The part of the CUDA driver's binary interface that is used here, as its documentation describes
// it for CUDA 12 and 13. No header of CUDA is needed to build.
//
// Names are the documentation's, so that it can be searched for them. Sizes and offsets that the
// driver relies on are checked below; tests/test_cuda_abi.py compares all of it with CUDA's header.
#pragma once

#include <cstddef>
#include <cstdint>

namespace swapmem::cuda {

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUmemGenericAllocationHandle = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUhostFn = void (*)(void* user_data);

// The default streams have handles of their own; null is the first of them.
inline CUstream legacy_stream() {
  return reinterpret_cast<CUstream>(std::uintptr_t{1});
}
inline CUstream per_thread_stream() {
  return reinterpret_cast<CUstream>(std::uintptr_t{2});
}

enum CUresult : int {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_DEINITIALIZED = 4,
  CUDA_ERROR_STUB_LIBRARY = 34,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_MAP_FAILED = 205,
  CUDA_ERROR_UNMAP_FAILED = 206,
  CUDA_ERROR_ALREADY_MAPPED = 208,
  CUDA_ERROR_NOT_MAPPED = 211,
  CUDA_ERROR_OPERATING_SYSTEM = 304,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_ILLEGAL_STATE = 401,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
  CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_PERMITTED = 800,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_SYSTEM_NOT_READY = 802,
  CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
  CUDA_ERROR_UNKNOWN = 999,
};

enum CUdevice_attribute : int {
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
  CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY = 19,
  CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
  CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 34,
  CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT = 40,
  CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
  CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID = 50,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY = 83,
  CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS = 88,
  CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS = 89,
  CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED = 99,
  CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102,
  CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID = 134,
};

enum CUmemAllocationType : int { CU_MEM_ALLOCATION_TYPE_PINNED = 1 };
enum CUmemAllocationHandleType : int { CU_MEM_HANDLE_TYPE_NONE = 0 };
enum CUmemLocationType : int { CU_MEM_LOCATION_TYPE_DEVICE = 1 };
enum CUmemAllocationGranularity_flags : int {
  CU_MEM_ALLOC_GRANULARITY_MINIMUM = 0,
  CU_MEM_ALLOC_GRANULARITY_RECOMMENDED = 1,
};
enum CUmemAccess_flags : int {
  CU_MEM_ACCESS_FLAGS_PROT_NONE = 0,
  CU_MEM_ACCESS_FLAGS_PROT_READ = 1,
  CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3,
};

struct CUmemLocation {
  CUmemLocationType type;
  int id;  // of a device: its ordinal
};

struct CUmemAllocationProp {
  CUmemAllocationType type;
  CUmemAllocationHandleType requestedHandleTypes;
  CUmemLocation location;
  void* win32HandleMetaData;
  struct {
    unsigned char compressionType;
    unsigned char gpuDirectRDMACapable;
    unsigned short usage;
    unsigned char reserved[4];
  } allocFlags;
};
static_assert(sizeof(CUmemAllocationProp) == 32);
static_assert(offsetof(CUmemAllocationProp, location) == 8);
static_assert(offsetof(CUmemAllocationProp, allocFlags) == 24);

struct CUmemAccessDesc {
  CUmemLocation location;
  CUmemAccess_flags flags;
};
static_assert(sizeof(CUmemAccessDesc) == 12);

enum : unsigned {
  CU_STREAM_DEFAULT = 0,
  CU_STREAM_NON_BLOCKING = 1,  // no implicit order with the legacy default stream
  CU_EVENT_DEFAULT = 0,
  CU_EVENT_BLOCKING_SYNC = 1,
  CU_EVENT_DISABLE_TIMING = 2,
  CU_EVENT_WAIT_DEFAULT = 0,
  CU_MEMHOSTREGISTER_PORTABLE = 1,  // pinned for every context
  CU_MEMHOSTREGISTER_DEVICEMAP = 2,
  CU_MEMHOSTALLOC_PORTABLE = 1,
  CU_MEMHOSTALLOC_DEVICEMAP = 2,
  CU_MEMHOSTALLOC_WRITECOMBINED = 4,
  CU_MEM_ATTACH_GLOBAL = 1,
  CU_MEM_ATTACH_HOST = 2,
};

enum CUpointer_attribute : int {
  CU_POINTER_ATTRIBUTE_CONTEXT = 1,
  CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2,
  CU_POINTER_ATTRIBUTE_DEVICE_POINTER = 3,
  CU_POINTER_ATTRIBUTE_HOST_POINTER = 4,
  CU_POINTER_ATTRIBUTE_BUFFER_ID = 7,
  CU_POINTER_ATTRIBUTE_IS_MANAGED = 8,
  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9,
  CU_POINTER_ATTRIBUTE_RANGE_START_ADDR = 11,
  CU_POINTER_ATTRIBUTE_RANGE_SIZE = 12,
  CU_POINTER_ATTRIBUTE_MAPPED = 13,
};

enum CUmemorytype : unsigned {
  CU_MEMORYTYPE_HOST = 1,
  CU_MEMORYTYPE_DEVICE = 2,
};

enum CUdriverProcAddressQueryResult : int {
  CU_GET_PROC_ADDRESS_SUCCESS = 0,
  CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND = 1,
  CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT = 2,
};

// What cuGetProcAddress is asked for: functions as they were in this version of CUDA. Later
// versions of some of them take other arguments.
inline constexpr int interface_version = 12000;

using GetProcAddress = CUresult (*)(const char* name, void** function, int version,
                                    std::uint64_t flags, CUdriverProcAddressQueryResult* status);

// Every function that is used: its name, its symbol in the library, its parameters.
#define SWAPMEM_CUDA_FUNCTIONS(X)                                                               \
  X(cuInit, cuInit, (unsigned flags))                                                           \
  X(cuDriverGetVersion, cuDriverGetVersion, (int* version))                                     \
  X(cuGetErrorName, cuGetErrorName, (CUresult error, const char** text))                        \
  X(cuGetErrorString, cuGetErrorString, (CUresult error, const char** text))                    \
                                                                                                \
  X(cuDeviceGetCount, cuDeviceGetCount, (int* count))                                           \
  X(cuDeviceGet, cuDeviceGet, (CUdevice * device, int ordinal))                                 \
  X(cuDeviceGetName, cuDeviceGetName, (char* name, int capacity, CUdevice device))              \
  X(cuDeviceGetAttribute, cuDeviceGetAttribute,                                                 \
    (int* value, CUdevice_attribute attribute, CUdevice device))                                \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2, (std::size_t* bytes, CUdevice device))               \
  X(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, (char* id, int capacity, CUdevice device))        \
  X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device)) \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                 \
  X(cuDevicePrimaryCtxGetState, cuDevicePrimaryCtxGetState,                                     \
    (CUdevice device, unsigned* flags, int* active))                                            \
                                                                                                \
  X(cuCtxPushCurrent, cuCtxPushCurrent_v2, (CUcontext context))                                 \
  X(cuCtxPopCurrent, cuCtxPopCurrent_v2, (CUcontext * context))                                 \
  X(cuCtxGetCurrent, cuCtxGetCurrent, (CUcontext * context))                                    \
  X(cuCtxSetCurrent, cuCtxSetCurrent, (CUcontext context))                                      \
  X(cuCtxGetDevice, cuCtxGetDevice, (CUdevice * device))                                        \
  X(cuCtxSynchronize, cuCtxSynchronize, ())                                                     \
                                                                                                \
  X(cuMemGetInfo, cuMemGetInfo_v2, (std::size_t* free_bytes, std::size_t* total_bytes))         \
  X(cuMemAddressReserve, cuMemAddressReserve,                                                   \
    (CUdeviceptr * address, std::size_t bytes, std::size_t alignment, CUdeviceptr wish,         \
     unsigned long long flags))                                                                 \
  X(cuMemAddressFree, cuMemAddressFree, (CUdeviceptr address, std::size_t bytes))               \
  X(cuMemGetAllocationGranularity, cuMemGetAllocationGranularity,                               \
    (std::size_t* bytes, const CUmemAllocationProp* prop,                                       \
     CUmemAllocationGranularity_flags option))                                                  \
  X(cuMemCreate, cuMemCreate,                                                                   \
    (CUmemGenericAllocationHandle * handle, std::size_t bytes, const CUmemAllocationProp* prop, \
     unsigned long long flags))                                                                 \
  X(cuMemRelease, cuMemRelease, (CUmemGenericAllocationHandle handle))                          \
  X(cuMemMap, cuMemMap,                                                                         \
    (CUdeviceptr address, std::size_t bytes, std::size_t offset,                                \
     CUmemGenericAllocationHandle handle, unsigned long long flags))                            \
  X(cuMemUnmap, cuMemUnmap, (CUdeviceptr address, std::size_t bytes))                           \
  X(cuMemSetAccess, cuMemSetAccess,                                                             \
    (CUdeviceptr address, std::size_t bytes, const CUmemAccessDesc* desc, std::size_t count))   \
                                                                                                \
  X(cuMemAlloc, cuMemAlloc_v2, (CUdeviceptr * address, std::size_t bytes))                      \
  X(cuMemAllocManaged, cuMemAllocManaged,                                                       \
    (CUdeviceptr * address, std::size_t bytes, unsigned flags))                                 \
  X(cuMemFree, cuMemFree_v2, (CUdeviceptr address))                                             \
  X(cuMemHostAlloc, cuMemHostAlloc, (void** host, std::size_t bytes, unsigned flags))           \
  X(cuMemFreeHost, cuMemFreeHost, (void* host))                                                 \
  X(cuMemHostRegister, cuMemHostRegister_v2, (void* host, std::size_t bytes, unsigned flags))   \
  X(cuMemHostUnregister, cuMemHostUnregister, (void* host))                                     \
  X(cuPointerGetAttribute, cuPointerGetAttribute,                                               \
    (void* data, CUpointer_attribute attribute, CUdeviceptr address))                           \
  X(cuPointerGetAttributes, cuPointerGetAttributes,                                             \
    (unsigned count, CUpointer_attribute* attributes, void** data, CUdeviceptr address))        \
                                                                                                \
  X(cuMemcpyDtoH, cuMemcpyDtoH_v2, (void* to, CUdeviceptr from, std::size_t bytes))             \
  X(cuMemcpyHtoD, cuMemcpyHtoD_v2, (CUdeviceptr to, const void* from, std::size_t bytes))       \
  X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2,                                                    \
    (void* to, CUdeviceptr from, std::size_t bytes, CUstream stream))                           \
  X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2,                                                    \
    (CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream))                     \
  X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2,                                                    \
    (CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream))                     \
  X(cuMemsetD8Async, cuMemsetD8Async,                                                           \
    (CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream))                  \
                                                                                                \
  X(cuStreamCreate, cuStreamCreate, (CUstream * stream, unsigned flags))                        \
  X(cuStreamCreateWithPriority, cuStreamCreateWithPriority,                                     \
    (CUstream * stream, unsigned flags, int priority))                                          \
  X(cuStreamDestroy, cuStreamDestroy_v2, (CUstream stream))                                     \
  X(cuStreamQuery, cuStreamQuery, (CUstream stream))                                            \
  X(cuStreamSynchronize, cuStreamSynchronize, (CUstream stream))                                \
  X(cuStreamWaitEvent, cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))     \
  X(cuStreamGetCtx, cuStreamGetCtx, (CUstream stream, CUcontext * context))                     \
  X(cuLaunchHostFunc, cuLaunchHostFunc, (CUstream stream, CUhostFn function, void* user_data))  \
                                                                                                \
  X(cuEventCreate, cuEventCreate, (CUevent * event, unsigned flags))                            \
  X(cuEventDestroy, cuEventDestroy_v2, (CUevent event))                                         \
  X(cuEventRecord, cuEventRecord, (CUevent event, CUstream stream))                             \
  X(cuEventQuery, cuEventQuery, (CUevent event))                                                \
  X(cuEventSynchronize, cuEventSynchronize, (CUevent event))                                    \
  X(cuEventElapsedTime, cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end))

// Functions that drivers for CUDA 11 and older do not have: null there.
#define SWAPMEM_CUDA_NEW_FUNCTIONS(X) \
  X(cuStreamGetId, cuStreamGetId, (CUstream stream, unsigned long long* id))

}  // namespace swapmem::cuda
