// Which policy a manager asked for.
#pragma once

#include <memory>

#include "core/policy.h"

namespace swapmem {

inline std::unique_ptr<Policy> make_policy(bool paranoid) {
  if (paranoid) return std::make_unique<Paranoid>();
  return std::make_unique<LeastRecentlyUsed>();
}

}  // namespace swapmem
