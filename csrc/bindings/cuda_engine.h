// CUDA for Python: which devices there are, and engines over them.
#pragma once

#include <pybind11/pybind11.h>

namespace swapmem {

// Adds cuda_devices, cuda_memory and cuda_engine to the module.
void bind_cuda_engine(pybind11::module_& module);

}  // namespace swapmem
