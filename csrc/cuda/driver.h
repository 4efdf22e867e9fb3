// The CUDA driver: a table of its functions, found at run time.
//
// Contract
// - Nothing of CUDA is linked. The library is $SWAPMEM_CUDA_DRIVER if that is set, else
//   libcuda.so.1; it is loaded and initialised once and never unloaded, because other libraries of
//   the process use it too and may do so until the very end.
// - Threads: any, any time. The driver's own functions may be called from any thread.
// - Errors: DeviceError. Its code is the CUresult, or 0 where there was none to be had.
// - Members have the documented names of the functions, whichever version the symbol carries, and
//   return the CUresult as it is: check it, or test it where a result is expected.
#pragma once

#include <string>

#include "core/errors.h"
#include "cuda/abi.h"

namespace swapmem::cuda {

class Driver {
 public:
  // Loads a library and initialises it. Says plainly what is missing: the library, virtual memory
  // management (drivers before CUDA 10.2), or a device.
  static Driver load(const char* library);

  // The device with this ordinal. Throws if there is none, with the number of devices, or if it
  // has no virtual memory management.
  CUdevice device(int ordinal) const;
  int device_count() const;

  // "CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"
  std::string describe(CUresult result) const;

  // Throws unless `result` is CUDA_SUCCESS. `call` is the function's name, with what helps.
  void check(CUresult result, const char* call) const {
    if (result != CUDA_SUCCESS) fail(result, call);
  }
  [[noreturn]] void fail(CUresult result, const std::string& call) const;

#define SWAPMEM_CUDA_MEMBER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  SWAPMEM_CUDA_FUNCTIONS(SWAPMEM_CUDA_MEMBER)
  SWAPMEM_CUDA_NEW_FUNCTIONS(SWAPMEM_CUDA_MEMBER)
#undef SWAPMEM_CUDA_MEMBER

 private:
  int process_ = 0;  // that initialised it; a forked child cannot use it
};

// The driver of this process. Throws DeviceError each time it cannot be loaded.
const Driver& driver();

inline void check(CUresult result, const char* call) {
  if (result != CUDA_SUCCESS) driver().fail(result, call);
}

}  // namespace swapmem::cuda
