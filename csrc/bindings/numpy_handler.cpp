#include "bindings/numpy_handler.h"

#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

#include <malloc.h>

#include <algorithm>
#include <cstring>

#include "core/size_class.h"
#include "host/fault_router.h"

namespace py = pybind11;

namespace swapmem {

namespace {

struct Handler {
  PyDataMem_Handler numpy;  // first: the capsule points here
  std::shared_ptr<Runtime> runtime;
  Span region;                  // of the engine: tells blocks from ordinary memory
  PyDataMemAllocator ordinary;  // NumPy's own, for small arrays and in forked children
};

Handler& self(void* context) {
  return *static_cast<Handler*>(context);
}

void* allocate_block(Handler& handler, std::size_t bytes, bool* zeroed) {
  try {
    void* block = reinterpret_cast<void*>(handler.runtime->engine().allocate_quick(bytes, zeroed));
    handler.runtime->forget_failure();
    return block;
  } catch (...) {
    handler.runtime->keep_failure(std::current_exception());
    return nullptr;
  }
}

bool is_small(std::size_t bytes) {
  return bytes < min_block_bytes || fault_router::in_forked_child();
}

void* numpy_malloc(void* context, std::size_t bytes) {
  Handler& handler = self(context);
  if (is_small(bytes)) return handler.ordinary.malloc(handler.ordinary.ctx, bytes);
  return allocate_block(handler, bytes, nullptr);
}

void* numpy_calloc(void* context, std::size_t count, std::size_t element_bytes) {
  Handler& handler = self(context);
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(count, element_bytes, &bytes)) return nullptr;
  if (is_small(bytes)) return handler.ordinary.calloc(handler.ordinary.ctx, count, element_bytes);
  bool zeroed = false;
  void* block = allocate_block(handler, bytes, &zeroed);
  if (block != nullptr && !zeroed) std::memset(block, 0, bytes);
  return block;
}

void numpy_free(void* context, void* pointer, std::size_t bytes) {
  Handler& handler = self(context);
  const Address address = reinterpret_cast<Address>(pointer);
  if (handler.region.contains(address)) {
    // A forked child leaves blocks alone: another thread may have held a store's lock at the fork.
    if (!fault_router::in_forked_child()) handler.runtime->engine().free_quick(address, bytes);
  } else {
    handler.ordinary.free(handler.ordinary.ctx, pointer, bytes);
  }
}

// NumPy's own allocator passes on what malloc returns, so malloc knows how much of it there is.
std::size_t readable_bytes(Handler& handler, void* pointer) {
  const Address address = reinterpret_cast<Address>(pointer);
  // The capacity: a block that changed hands quickly is known by the size it had first.
  if (handler.region.contains(address)) return handler.runtime->engine().capacity_bytes(address);
  return malloc_usable_size(pointer);
}

void* numpy_realloc(void* context, void* pointer, std::size_t bytes) {
  Handler& handler = self(context);
  if (pointer == nullptr) return numpy_malloc(context, bytes);
  const bool is_block = handler.region.contains(reinterpret_cast<Address>(pointer));
  if (!is_block && is_small(bytes)) {
    return handler.ordinary.realloc(handler.ordinary.ctx, pointer, bytes);
  }
  void* moved = numpy_malloc(context, bytes);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, pointer, std::min(bytes, readable_bytes(handler, pointer)));
  if (!is_block) {
    handler.ordinary.free(handler.ordinary.ctx, pointer, malloc_usable_size(pointer));
  } else if (!fault_router::in_forked_child()) {
    handler.runtime->engine().free(reinterpret_cast<Address>(pointer));
  }
  return moved;
}

void delete_handler(PyObject* capsule) {
  delete static_cast<Handler*>(PyCapsule_GetPointer(capsule, "mem_handler"));
}

}  // namespace

py::capsule make_numpy_handler(std::shared_ptr<Runtime> runtime) {
  if (PyArray_ImportNumPyAPI() < 0) throw py::error_already_set();
  const auto* ordinary = static_cast<PyDataMem_Handler*>(
      PyCapsule_GetPointer(PyDataMem_DefaultHandler, "mem_handler"));
  if (ordinary == nullptr) throw py::error_already_set();
  auto handler = std::make_unique<Handler>();
  handler->region = runtime->engine().device().region();
  handler->runtime = std::move(runtime);
  handler->ordinary = ordinary->allocator;
  std::strncpy(handler->numpy.name, "swapmem", sizeof handler->numpy.name - 1);
  handler->numpy.version = 1;
  handler->numpy.allocator = {handler.get(), numpy_malloc, numpy_calloc, numpy_realloc, numpy_free};
  PyObject* capsule = PyCapsule_New(handler.get(), "mem_handler", delete_handler);
  if (capsule == nullptr) throw py::error_already_set();
  static_cast<void>(handler.release());  // the capsule's now
  return py::reinterpret_steal<py::capsule>(capsule);
}

py::object set_numpy_handler(py::object handler) {
  if (PyArray_ImportNumPyAPI() < 0) throw py::error_already_set();
  PyObject* before = PyDataMem_SetHandler(handler.is_none() ? nullptr : handler.ptr());
  if (before == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(before);
}

}  // namespace swapmem
