// What of abi.h can be compared with CUDA's own header when it is compiled: the layout of what the
// driver reads, and for each function how many parameters it has and of which size. The values of
// its constants are added by tests/test_cuda_abi.py, which compiles this.
#include <array>
#include <cstddef>
#include <type_traits>

#include "cuda/abi.h"
// After abi.h: it gives some functions other names.
#include <cuda.h>

namespace swapmem::cuda {
namespace {

// A number is its size; a pointer is more than that, and says the size of what it points to.
template <typename T>
constexpr std::size_t kind() {
  if constexpr (!std::is_pointer_v<T>) {
    return sizeof(T);
  } else if constexpr (requires { sizeof(std::remove_pointer_t<T>); } &&
                       std::is_object_v<std::remove_pointer_t<T>>) {
    return 1000 + sizeof(std::remove_pointer_t<T>);
  } else {
    return 1000;  // to functions, to what nobody looks into, to anything
  }
}

template <typename Result, typename... Parameters>
constexpr auto shape(Result (*)(Parameters...)) {
  return std::array{kind<Result>(), kind<Parameters>()...};
}

#define SAME_SHAPE(name, symbol, parameters) \
  static_assert(shape(static_cast<CUresult(*) parameters>(nullptr)) == shape(&::symbol), #symbol);
SWAPMEM_CUDA_FUNCTIONS(SAME_SHAPE)
SWAPMEM_CUDA_NEW_FUNCTIONS(SAME_SHAPE)
static_assert(shape(static_cast<GetProcAddress>(nullptr)) == shape(&::cuGetProcAddress_v2));

#define SAME_PLACE(type, member)                                     \
  static_assert(offsetof(type, member) == offsetof(::type, member)); \
  static_assert(sizeof(type::member) == sizeof(::type::member))
SAME_PLACE(CUmemLocation, type);
SAME_PLACE(CUmemLocation, id);
SAME_PLACE(CUmemAllocationProp, type);
SAME_PLACE(CUmemAllocationProp, requestedHandleTypes);
SAME_PLACE(CUmemAllocationProp, location);
SAME_PLACE(CUmemAllocationProp, win32HandleMetaData);
SAME_PLACE(CUmemAllocationProp, allocFlags);
SAME_PLACE(CUmemAllocationProp, allocFlags.compressionType);
SAME_PLACE(CUmemAllocationProp, allocFlags.gpuDirectRDMACapable);
SAME_PLACE(CUmemAllocationProp, allocFlags.usage);
SAME_PLACE(CUmemAccessDesc, location);
SAME_PLACE(CUmemAccessDesc, flags);
static_assert(sizeof(CUmemAllocationProp) == sizeof(::CUmemAllocationProp));
static_assert(sizeof(CUmemAccessDesc) == sizeof(::CUmemAccessDesc));

}  // namespace
}  // namespace swapmem::cuda
