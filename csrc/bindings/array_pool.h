// What a manager gives arrays on a device: blocks for large ones, shares of chunks for small ones.
//
// Contract
// - An allocation is a Lease; when it ends the memory is free. It may end anywhere: in another
//   thread, in a garbage collection, while the interpreter exits. That never throws and never
//   waits.
// - Order: memory is used and freed on the stream that was current when it was allocated, as with
//   CuPy's own pool: what is freed is handed out again on that stream at once. To use an array on
//   another stream and let it go without an event between them is the program's mistake.
// - Chunks are pinned: what is in them is never swapped out. A chunk serves one stream. One that
//   becomes empty is kept for the next small array of its stream, but only the last such one.
// - Threads: the interpreter's lock protects the pool. It is given up while the engine works.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "bindings/chunk.h"
#include "bindings/runtime.h"

namespace swapmem {

// A stream as an allocation sees it.
struct StreamUse {
  std::uintptr_t handle = 0;
  std::int64_t identity = 0;  // tells apart what has one handle: the default streams of threads
  pybind11::object owner;     // keeps it from being destroyed while memory of it is in use
};

class ArrayPool;

class Lease {
 public:
  Lease(std::shared_ptr<ArrayPool> pool, Address address, std::size_t bytes, StreamUse stream);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  Address address() const { return address_; }

 private:
  const std::shared_ptr<ArrayPool> pool_;
  const Address address_;
  const std::size_t bytes_;
  const StreamUse stream_;
  const unsigned long thread_;
};

class ArrayPool : public std::enable_shared_from_this<ArrayPool> {
 public:
  explicit ArrayPool(std::shared_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}
  ~ArrayPool();
  ArrayPool(const ArrayPool&) = delete;
  ArrayPool& operator=(const ArrayPool&) = delete;

  std::unique_ptr<Lease> allocate(std::size_t bytes, StreamUse stream);
  // Gives the chunk that is kept back to the engine; returns its bytes.
  std::size_t trim();
  // Of all chunks, and of what arrays asked for in them.
  std::size_t chunk_bytes() const { return chunks_.size() * Chunk::bytes; }
  std::size_t small_bytes() const { return small_bytes_; }

 private:
  friend class Lease;
  struct SharedChunk {
    Chunk parts;
    Address address;
    StreamUse stream;
  };
  using Chunks = std::list<SharedChunk>;
  struct Part {
    Chunks::iterator chunk;
    int order;
  };

  Address allocate_small(std::size_t bytes, const StreamUse& stream);
  Chunks::iterator chunk_for(int order, const StreamUse& stream);
  std::size_t release(Chunks::iterator chunk) noexcept;
  void free(Address address, std::size_t bytes, std::uintptr_t stream) noexcept;
  void free_block(Address address, std::uintptr_t stream, bool pinned) noexcept;

  const std::shared_ptr<Runtime> runtime_;
  Chunks chunks_;  // those that had room last come first
  Chunks::iterator kept_ = chunks_.end();
  std::unordered_map<Address, Part> parts_;
  std::size_t small_bytes_ = 0;
};

// Adds the classes to the module.
void bind_array_pool(pybind11::module_& module);

}  // namespace swapmem
