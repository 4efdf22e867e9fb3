// What tests write into blocks: every word tells which block and which place it belongs to, so that
// bytes that end up elsewhere, are lost or are old are all seen.
#pragma once

#include <cstddef>
#include <cstdint>

#include "check.h"
#include "core/device.h"

namespace swapmem::test {

inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

inline void fill(Address address, std::size_t bytes, std::uint64_t cookie) {
  auto* words = reinterpret_cast<std::uint64_t*>(address);
  for (std::size_t i = 0; i < bytes / sizeof *words; ++i) words[i] = mix(cookie) + i;
}

inline bool holds(Address address, std::size_t bytes, std::uint64_t cookie) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(address);
  for (std::size_t i = 0; i < bytes / sizeof *words; ++i) {
    if (words[i] != mix(cookie) + i) return false;
  }
  return true;
}

inline bool all_zero(Address address, std::size_t bytes) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(address);
  for (std::size_t i = 0; i < bytes / sizeof *words; ++i) {
    if (words[i] != 0) return false;
  }
  return true;
}

}  // namespace swapmem::test
