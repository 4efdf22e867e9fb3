// Where the arrays are that an op uses: asked at every op, so that it may take no time.
#pragma once

#include <pybind11/pybind11.h>

namespace swapmem {

// Adds add_arrays and add_attributes to the module.
void bind_arrays(pybind11::module_& module);

}  // namespace swapmem
