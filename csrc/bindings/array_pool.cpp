#include "bindings/array_pool.h"

#include <pythread.h>

#include <utility>

#include "cuda/streams.h"

namespace py = pybind11;
using namespace py::literals;

namespace swapmem {

namespace {

// Handles with a meaning of their own (CUDA driver API, "Stream synchronization behavior").
constexpr std::uintptr_t legacy_stream = 1;
constexpr std::uintptr_t per_thread_stream = 2;

// A thread cannot name another's default stream, but the legacy stream comes after all of these.
std::uintptr_t seen_from_elsewhere(std::uintptr_t handle) {
  return handle == per_thread_stream ? legacy_stream : handle;
}

cuda::CurrentStream current(std::uintptr_t handle) {
  return cuda::CurrentStream(reinterpret_cast<cuda::CUstream>(handle));
}

}  // namespace

Lease::Lease(std::shared_ptr<ArrayPool> pool, Address address, std::size_t bytes, StreamUse stream)
    : pool_(std::move(pool)),
      address_(address),
      bytes_(bytes),
      stream_(std::move(stream)),
      thread_(PyThread_get_thread_ident()) {}

Lease::~Lease() {
  const bool is_ours = PyThread_get_thread_ident() == thread_;
  pool_->free(address_, bytes_, is_ours ? stream_.handle : seen_from_elsewhere(stream_.handle));
}

ArrayPool::~ArrayPool() {
  trim();
}

std::unique_ptr<Lease> ArrayPool::allocate(std::size_t bytes, StreamUse stream) {
  Engine& engine = runtime_->moving_engine();  // throws in a forked child, also for a chunk's part
  Address address = 0;
  if (bytes < runtime_->min_block_bytes()) {
    address = allocate_small(bytes, stream);
  } else {
    py::gil_scoped_release release;
    const auto scope = current(stream.handle);
    address = engine.allocate(bytes);
  }
  try {
    return std::make_unique<Lease>(shared_from_this(), address, bytes, stream);
  } catch (...) {
    free(address, bytes, stream.handle);
    throw;
  }
}

Address ArrayPool::allocate_small(std::size_t bytes, const StreamUse& stream) {
  const int order = Chunk::order_of(bytes);
  const Chunks::iterator chunk = chunk_for(order, stream);
  const Address address = chunk->address + chunk->parts.take(order);
  if (chunk == kept_) kept_ = chunks_.end();
  try {
    parts_.emplace(address, Part{chunk, order});
  } catch (...) {
    chunk->parts.give_back(address - chunk->address, order);
    throw;
  }
  small_bytes_ += bytes;
  return address;
}

ArrayPool::Chunks::iterator ArrayPool::chunk_for(int order, const StreamUse& stream) {
  for (auto chunk = chunks_.begin(); chunk != chunks_.end(); ++chunk) {
    if (chunk->stream.identity == stream.identity && chunk->parts.largest_order() >= order) {
      chunks_.splice(chunks_.begin(), chunks_, chunk);
      return chunk;
    }
  }
  Chunks fresh;
  fresh.push_back({Chunk(), 0, stream});
  {
    py::gil_scoped_release release;
    const auto scope = current(stream.handle);
    Engine& engine = runtime_->engine();
    fresh.front().address = engine.allocate(Chunk::bytes);
    try {
      engine.pin(fresh.front().address);
    } catch (...) {
      engine.free(fresh.front().address);
      throw;
    }
  }
  chunks_.splice(chunks_.begin(), fresh);
  return chunks_.begin();
}

void ArrayPool::free(Address address, std::size_t bytes, std::uintptr_t stream) noexcept {
  const auto found = parts_.find(address);
  if (found == parts_.end()) {
    free_block(address, stream, false);
    return;
  }
  const auto [chunk, order] = found->second;
  parts_.erase(found);
  small_bytes_ -= bytes;
  chunk->parts.give_back(address - chunk->address, order);
  chunks_.splice(chunks_.begin(), chunks_, chunk);
  if (chunk->parts.is_empty()) release(std::exchange(kept_, chunk));
}

std::size_t ArrayPool::trim() {
  return release(std::exchange(kept_, chunks_.end()));
}

std::size_t ArrayPool::release(Chunks::iterator chunk) noexcept {
  if (chunk == chunks_.end()) return 0;
  // Off the books first: to let go of its stream may run any code of Python's.
  Chunks released;
  released.splice(released.begin(), chunks_, chunk);
  free_block(chunk->address, seen_from_elsewhere(chunk->stream.handle), true);
  return Chunk::bytes;
}

void ArrayPool::free_block(Address address, std::uintptr_t stream, bool pinned) noexcept {
  if (runtime_->in_forked_child()) return;
  try {
    const auto scope = current(stream);
    if (pinned) runtime_->engine().unpin(address);
    runtime_->engine().free(address);
  } catch (const std::exception& error) {
    // An array ends: there is no caller to raise at.
    py::error_scope kept;
    PyErr_SetString(PyExc_RuntimeError, error.what());
    PyErr_WriteUnraisable(nullptr);
  }
}

void bind_array_pool(py::module_& module) {
  py::class_<Lease>(module, "Lease").def_property_readonly("address", &Lease::address);

  py::class_<ArrayPool, std::shared_ptr<ArrayPool>>(module, "ArrayPool")
      .def(py::init<std::shared_ptr<Runtime>>(), "engine"_a)
      .def(
          "allocate",
          [](ArrayPool& self, std::size_t bytes, std::uintptr_t stream, std::int64_t identity,
             py::object owner) {
            return self.allocate(bytes, {stream, identity, std::move(owner)});
          },
          "bytes"_a, "stream"_a, "identity"_a, "owner"_a)
      .def("trim", &ArrayPool::trim)
      .def_property_readonly("chunk_bytes", &ArrayPool::chunk_bytes)
      .def_property_readonly("small_bytes", &ArrayPool::small_bytes);
}

}  // namespace swapmem
