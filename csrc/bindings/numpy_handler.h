// NumPy's memory handler (NEP 49): arrays of min_block_bytes and more become blocks.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "bindings/runtime.h"

namespace swapmem {

// A capsule for `set_numpy_handler`. Every array made with it keeps it, and so the engine, alive.
pybind11::capsule make_numpy_handler(std::shared_ptr<Runtime> runtime);

// Sets the handler of the current context (a context variable: threads have their own) and returns
// the one before.
pybind11::object set_numpy_handler(pybind11::object handler);

}  // namespace swapmem
