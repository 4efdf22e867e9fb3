// Host RAM as the device: one large reserved range of private anonymous memory.
//
// Moving memory moves page-table entries (mremap), so bytes are neither copied nor cleared, and a
// forked child keeps its own view. Blocks of 2 MiB and more start at huge pages.
// Linux 5.7 or later (MREMAP_DONTUNMAP: the address range stays reserved while its pages leave).
#pragma once

#include "core/device.h"

namespace swapmem {

class HostDevice : public Device {
 public:
  // Reserves addresses, not memory: as many as the system gives, at most `most_bytes`.
  explicit HostDevice(std::size_t most_bytes = std::size_t{16} << 40);
  ~HostDevice() override;
  HostDevice(const HostDevice&) = delete;
  HostDevice& operator=(const HostDevice&) = delete;

  Span region() const override { return region_; }
  std::size_t frame_bytes() const override { return std::size_t{2} << 20; }
  void commit(Span span) override;
  void decommit(Span span, const Fences& last_use) override;
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override;
  void protect(Span span, Access access) override;
  void watch(Span span) override;
  bool watches() const override;
  bool sees_writes() const override { return true; }

  // The block stays closed until all its bytes are there: they are read to the staging block and
  // appear at the block's addresses in one step.
  Address begin_fill(Span staging, Span) override { return staging.address; }
  void finish_fill(Span staging, Span block) override;

 private:
  Span mapping_;  // what munmap needs
  Span region_;   // its part that starts at a frame
};

}  // namespace swapmem
