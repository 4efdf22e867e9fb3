// A link: what copies between the addresses of a device and host memory.
//
// Contract
// - Threads: every call may come from any thread, several at once.
// - Order: a copy has taken full effect when its call returns. What may use the device's memory
//   meanwhile is the caller's to see to: the engine has waited for the block's last use.
// - A copy in that is queued on the device says so meanwhile, by `queued`: work that is ordered
//   after the fence finds its bytes.
// - Host memory has to be pinned while it is copied to or from; a link that needs that refuses
//   other memory rather than copy it slowly.
// - Errors: DeviceError. After a failed copy the destination's bytes are undefined.
#pragma once

#include <cstddef>

#include "core/device.h"

namespace swapmem {

class Link {
 public:
  virtual ~Link() = default;
  virtual void pin(void* host, std::size_t bytes) = 0;
  virtual void unpin(void* host, std::size_t bytes) noexcept = 0;
  virtual void copy_out(void* host, const void* device, std::size_t bytes) = 0;
  virtual void copy_in(void* device, const void* host, std::size_t bytes,
                       const Queued& queued = {}) = 0;
};

}  // namespace swapmem
