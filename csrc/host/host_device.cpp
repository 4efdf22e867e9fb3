#include "host/host_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "core/errors.h"
#include "core/size_class.h"
#include "host/user_fault.h"

namespace swapmem {

namespace {

constexpr int closed_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

[[noreturn]] void fail(const char* call, int code) {
  std::string what = std::string(call) + ": " + std::strerror(code);
  if (code == ENOMEM) {
    what += "; too many mappings (vm.max_map_count), or an address space limit (ulimit -v)";
  }
  throw DeviceError(what, code);
}

void* pointer(Address address) {
  return reinterpret_cast<void*>(address);
}

int protection(Access access) {
  switch (access) {
    case Access::none:
      return PROT_NONE;
    case Access::read:
      return PROT_READ;
    default:
      return PROT_READ | PROT_WRITE;
  }
}

}  // namespace

HostDevice::HostDevice(std::size_t most_bytes) {
  void* base = MAP_FAILED;
  std::size_t bytes = most_bytes;
  for (; bytes >= 2 * frame_bytes(); bytes /= 2) {
    base = mmap(nullptr, bytes, PROT_NONE, closed_flags, -1, 0);
    if (base != MAP_FAILED) break;
  }
  if (base == MAP_FAILED) fail("mmap of an address range", errno);
  mapping_ = {reinterpret_cast<Address>(base), bytes};
  region_.address = (mapping_.address + frame_bytes() - 1) / frame_bytes() * frame_bytes();
  region_.bytes = mapping_.end() - region_.address;
  try {
    move(region_.address, region_.address + frame_bytes(), frame_bytes(), {});
    decommit({region_.address, 2 * frame_bytes()}, {});
  } catch (const DeviceError& error) {
    munmap(base, bytes);
    throw DeviceError(std::string(error.what()) + "; the host device needs Linux 5.7 or later",
                      error.code);
  }
}

HostDevice::~HostDevice() {
  munmap(pointer(mapping_.address), mapping_.bytes);
}

void HostDevice::commit(Span span) {
  user_fault::forget(span);
  protect(span, Access::read_write);
  // Whole huge pages of this block alone: a neighbour's page must not come along uncharged.
  const Address first = (span.address + frame_bytes() - 1) / frame_bytes() * frame_bytes();
  const Address last = span.end() / frame_bytes() * frame_bytes();
  if (first < last) {
    madvise(pointer(first), last - first, MADV_HUGEPAGE);  // refused where there are none: fine
  }
}

void HostDevice::decommit(Span span, const Fences&) {
  // A new mapping rather than MADV_DONTNEED: it merges with its closed neighbours.
  if (mmap(pointer(span.address), span.bytes, PROT_NONE, closed_flags | MAP_FIXED, -1, 0) !=
      MAP_FAILED) {
    return;
  }
  // No mapping left for that: at least the memory goes, and what comes next reads as zeros.
  madvise(pointer(span.address), span.bytes, MADV_DONTNEED);
  protect(span, Access::none);
}

// A range that was put together from several others is several mappings to the system, and one call
// takes pages of one mapping only: halves are tried until they fit. While a block is filled that
// way, each part of it is closed or has its bytes.
void HostDevice::move(Address from, Address to, std::size_t bytes, const Fences& last_use) {
  constexpr int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  if (mremap(pointer(from), bytes, bytes, flags, pointer(to)) != MAP_FAILED) return;
  if (errno != EFAULT || bytes <= page_bytes) fail("mremap", errno);
  const std::size_t unit = bytes > frame_bytes() ? frame_bytes() : page_bytes;
  const std::size_t half = (bytes / 2 + unit - 1) / unit * unit;
  move(from, to, half, last_use);
  move(from + half, to + half, bytes - half, last_use);
}

void HostDevice::finish_fill(Span staging, Span block) {
  move(staging.address, block.address, staging.bytes, {});
  user_fault::wake(block);
}

// Open, but reported before it can be seen that there is nothing.
void HostDevice::watch(Span span) {
  if (user_fault::watch(span)) mprotect(pointer(span.address), span.bytes, PROT_READ | PROT_WRITE);
}

bool HostDevice::watches() const {
  return user_fault::descriptor() >= 0;
}

void HostDevice::protect(Span span, Access access) {
  if (mprotect(pointer(span.address), span.bytes, protection(access)) != 0) {
    fail("mprotect", errno);
  }
}

}  // namespace swapmem
