// An engine over RAM, registered for touches of its swapped-out memory.
#pragma once

#include <cerrno>
#include <memory>
#include <utility>

#include "bindings/runtime.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/fault_router.h"

namespace swapmem {

class HostRuntime final : public Runtime {
 public:
  explicit HostRuntime(std::unique_ptr<Engine> engine) : Runtime(std::move(engine)) {
    fault_router::add(this->engine());
  }
  ~HostRuntime() override {
    if (fault_router::in_forked_child()) {
      abandon_engine();
    } else {
      fault_router::remove(engine());
    }
  }

  bool in_forked_child() const override { return fault_router::in_forked_child(); }
  std::size_t min_block_bytes() const override { return swapmem::min_block_bytes; }
  Engine& moving_engine() override {
    if (in_forked_child()) {
      throw DeviceError("a forked child cannot swap; start it with forkserver or spawn", ECHILD);
    }
    return engine();
  }
  // The router sees to it that a child finds the bookkeeping whole.
  Engine& readable_engine() override { return engine(); }
};

}  // namespace swapmem
