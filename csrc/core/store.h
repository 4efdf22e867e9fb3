// A store: where the bytes of swapped-out blocks wait.
//
// Contract
// - A slot is a piece of the store of fixed size, owned by one block from reserve to release.
// - Threads: every call may come from any thread, several at once, also for parts of one slot.
//   The engine calls with none of its locks held.
// - Order: a read that starts after a write returned sees its bytes.
// - Errors: StoreError with errno. After a failed write the slot's contents are undefined; after a
//   failed read the destination's are. Neither touches other slots.
// - Offsets, sizes and addresses are multiples of 4096.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"

namespace swapmem {

struct Slot {
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
  explicit operator bool() const { return bytes != 0; }
};

class Store {
 public:
  virtual ~Store() = default;
  virtual Slot reserve(std::size_t bytes) = 0;
  virtual void release(Slot slot) noexcept = 0;
  virtual void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) = 0;
  virtual void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) = 0;
  // As read. Where the copy is queued on a device, `queued` is called meanwhile, at most once: work
  // that is ordered after the fence finds all of the bytes.
  virtual void read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                           const Queued& queued) {
    static_cast<void>(queued);
    read(slot, offset, to, bytes);
  }
  // The slot will be read before long: a store of several tiers may bring it nearer.
  virtual void soon(Slot) noexcept {}
  // Gives back memory that is kept for later slots; returns its bytes.
  virtual std::size_t trim() { return 0; }
  virtual std::size_t used_bytes() const = 0;
  virtual std::size_t peak_bytes() const = 0;
  virtual std::size_t budget_bytes() const = 0;
  // What the user should know: no O_DIRECT here, a file system in memory.
  virtual std::vector<std::string> notices() const = 0;
};

}  // namespace swapmem
