// The link of a device whose memory the processor reads and writes: a copy is a memcpy.
//
// It needs no pinned memory, so it pins none: locking pages would run into RLIMIT_MEMLOCK and gain
// nothing.
#pragma once

#include "core/link.h"

namespace swapmem {

class HostLink : public Link {
 public:
  void pin(void*, std::size_t) override {}
  void unpin(void*, std::size_t) noexcept override {}
  void copy_out(void* host, const void* device, std::size_t bytes) override;
  void copy_in(void* device, const void* host, std::size_t bytes, const Queued&) override;
};

}  // namespace swapmem
