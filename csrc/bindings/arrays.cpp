#include "bindings/arrays.h"

#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

namespace py = pybind11;
using namespace py::literals;

namespace swapmem {

namespace {

// A view stands for the array that it looks into.
void add_array(PyArrayObject* array, npy_intp minimum_bytes, py::dict& found) {
  PyObject* base = PyArray_BASE(array);
  while (base != nullptr && PyArray_Check(base)) {
    array = reinterpret_cast<PyArrayObject*>(base);
    base = PyArray_BASE(array);
  }
  // Memory that something else owns has an unknown size; the engine knows whether it is a block.
  // An empty array's pointer may lie behind the end of its memory.
  const npy_intp bytes = PyArray_NBYTES(array);
  if (bytes >= minimum_bytes || (base != nullptr && bytes > 0)) {
    found[py::int_(reinterpret_cast<std::uintptr_t>(PyArray_DATA(array)))] = py::int_(bytes);
  }
}

void add_value(py::handle value, const py::set& plain, npy_intp minimum_bytes, py::dict& found,
               py::list& others) {
  if (PyArray_Check(value.ptr())) {
    add_array(reinterpret_cast<PyArrayObject*>(value.ptr()), minimum_bytes, found);
  } else if (!plain.contains(py::type::handle_of(value))) {
    others.append(value);
  }
}

py::list add_arrays(const py::iterable& values, const py::set& plain, npy_intp minimum_bytes,
                    py::dict found) {
  py::list others;
  for (const py::handle value : values) add_value(value, plain, minimum_bytes, found, others);
  return others;
}

py::list add_attributes(const py::dict& attributes, const py::set& left_out, const py::set& plain,
                        npy_intp minimum_bytes, py::dict found) {
  py::list others;
  for (const auto& [name, value] : attributes) {
    if (!left_out.contains(name)) add_value(value, plain, minimum_bytes, found, others);
  }
  return others;
}

}  // namespace

void bind_arrays(py::module_& module) {
  if (PyArray_ImportNumPyAPI() < 0) throw py::error_already_set();
  module.def("add_arrays", &add_arrays, "values"_a, "plain"_a, "minimum_bytes"_a, "found"_a);
  module.def("add_attributes", &add_attributes, "attributes"_a, "left_out"_a, "plain"_a,
             "minimum_bytes"_a, "found"_a);
}

}  // namespace swapmem
