// An engine with the policy that a manager asked for.
#pragma once

#include <memory>
#include <utility>

#include "core/engine.h"
#include "core/policy.h"

namespace swapmem {

inline std::unique_ptr<Engine> make_engine(std::unique_ptr<Device> device,
                                           std::unique_ptr<Store> store, bool paranoid,
                                           const EngineOptions& options) {
  std::unique_ptr<Policy> policy;
  if (paranoid) {
    policy = std::make_unique<Paranoid>();
  } else {
    policy = std::make_unique<LeastRecentlyUsed>();
  }
  return std::make_unique<Engine>(std::move(device), std::move(store), std::move(policy), options);
}

}  // namespace swapmem
