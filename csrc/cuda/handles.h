// Physical memory of a device: handles of two sizes, and those kept for the next who needs one.
//
// existing bytes = bytes in use + cached bytes + bytes that wait for their last use to pass
// existing bytes <= the most that was ever in use at once, unless a caller insists
//
// So physical memory keeps within whatever limit its user keeps to, also while it changes from
// handles of one size to those of the other.
//
// Threads: any, several at once; the context is current. No lock is held across a driver call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "cuda/context.h"

namespace swapmem::cuda {

using Handle = CUmemGenericAllocationHandle;  // 0: none
enum class Unit : std::uint8_t { page, frame };

class Handles {
 public:
  Handles(const Context& context, std::size_t page_bytes, std::size_t frame_bytes,
          std::size_t cache_bytes);
  ~Handles();  // releases the cached ones
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;

  std::size_t bytes(Unit unit) const { return unit_bytes_[static_cast<std::size_t>(unit)]; }

  // `more` bytes will be taken and are in use from now on; or have left.
  void use(std::size_t more);
  void unuse(std::size_t less);

  // From the cache, else new. 0 if for a new one more memory would exist than was ever in use at
  // once, and the caller does not insist. DeviceError with numbers.
  Handle take(Unit unit, bool insist);
  void give_back(Unit unit, Handle handle) noexcept;
  void trim() noexcept;  // nothing is cached then

  std::size_t in_use_bytes() const;
  std::size_t cached_bytes() const;
  std::size_t existing_bytes() const;

 private:
  using Lock = std::unique_lock<std::mutex>;

  std::vector<Handle>& cached(Unit unit) { return cached_[static_cast<std::size_t>(unit)]; }
  bool release_cached(Lock& lock, Unit unit) noexcept;
  Handle create(Unit unit);

  const Context& context_;
  const std::array<std::size_t, 2> unit_bytes_;
  const std::size_t most_cached_bytes_;
  mutable std::mutex mutex_;
  std::array<std::vector<Handle>, 2> cached_;
  std::size_t cached_bytes_ = 0;
  std::size_t existing_bytes_ = 0;
  std::size_t in_use_bytes_ = 0;
  std::size_t most_in_use_bytes_ = 0;
};

// Device memory of this ordinal, as every handle here is.
CUmemAllocationProp device_memory(int ordinal);

// The smallest handle there is, and what addresses of mappings are multiples of.
std::size_t granularity_bytes(const Driver& driver, int ordinal);

}  // namespace swapmem::cuda
