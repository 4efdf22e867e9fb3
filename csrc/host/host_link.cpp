#include "host/host_link.h"

#include <cstring>

namespace swapmem {

void HostLink::copy_out(void* host, const void* device, std::size_t bytes) {
  std::memcpy(host, device, bytes);
}

void HostLink::copy_in(void* device, const void* host, std::size_t bytes, const Queued&) {
  std::memcpy(device, host, bytes);
}

}  // namespace swapmem
