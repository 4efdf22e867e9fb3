// Stands in for a GPU: no write protection, so that a write nobody announced goes unseen.
#pragma once

#include "host/host_device.h"
#include "support/forwarding.h"

namespace swapmem::test {

class BlindDevice : public ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;

  bool sees_writes() const override { return false; }
  void watch(Span) override {}
  bool watches() const override { return false; }
  void protect(Span span, Access access) override {
    inner_->protect(span, access == Access::none ? Access::none : Access::read_write);
  }
};

}  // namespace swapmem::test
