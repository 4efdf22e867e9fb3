// Cookies in the slots of a store.
#pragma once

#include <cstdint>
#include <vector>

#include "core/store.h"
#include "support/bytes.h"

namespace swapmem::test {

class Memory {
 public:
  explicit Memory(std::size_t bytes) : words_(bytes / sizeof(std::uint64_t)) {}
  Address address() { return reinterpret_cast<Address>(words_.data()); }
  void* data() { return words_.data(); }
  std::size_t bytes() const { return words_.size() * sizeof(std::uint64_t); }

 private:
  std::vector<std::uint64_t> words_;
};

struct Written {
  Slot slot;
  std::uint64_t cookie;
};

inline void write_cookie(Store& store, Slot slot, std::uint64_t cookie) {
  Memory memory(slot.bytes);
  fill(memory.address(), slot.bytes, cookie);
  store.write(slot, 0, memory.data(), slot.bytes);
}

inline bool has_cookie(Store& store, Slot slot, std::uint64_t cookie) {
  Memory memory(slot.bytes);
  store.read(slot, 0, memory.data(), slot.bytes);
  return holds(memory.address(), slot.bytes, cookie);
}

// The fences that a read of the whole slot tells of, as it is queued.
inline std::vector<Fence> fences_of_read(Store& store, Slot slot) {
  Memory memory(slot.bytes);
  std::vector<Fence> fences;
  store.read_queued(slot, 0, memory.data(), slot.bytes, [&](Fence f) { fences.push_back(f); });
  return fences;
}

}  // namespace swapmem::test
