// How a program finds the functions.
#include <algorithm>
#include <cstring>
#include <string>

#include "fake_driver/entry.h"

namespace fake {

FAKE_API CUresult cuGetProcAddress_v2(const char* name, void** function, int version, std::uint64_t,
                                      CUdriverProcAddressQueryResult* status) {
  return enter("cuGetProcAddress", Needs::nothing, [&](World& world, Lock&) {
    *function = nullptr;
    *status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
#define FAKE_FIND(base, symbol, parameters) \
  if (std::strcmp(name, #base) == 0) *function = reinterpret_cast<void*>(&symbol);
    SWAPMEM_CUDA_FUNCTIONS(FAKE_FIND)
    SWAPMEM_CUDA_NEW_FUNCTIONS(FAKE_FIND)
#undef FAKE_FIND
    if (*function == nullptr) return CUDA_ERROR_NOT_FOUND;
    const auto& hidden = world.hidden;
    if (version < 12000 || std::find(hidden.begin(), hidden.end(), name) != hidden.end()) {
      *function = nullptr;
      *status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
      return CUDA_ERROR_NOT_FOUND;
    }
    *status = CU_GET_PROC_ADDRESS_SUCCESS;
    return CUDA_SUCCESS;
  });
}

}  // namespace fake
