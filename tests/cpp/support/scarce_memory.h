// Memory that runs out: the nth allocation with `new` of the calling thread from now on throws.
#pragma once

#include <cstdint>

namespace swapmem::test {

class ScarceMemory {
 public:
  explicit ScarceMemory(std::uint64_t nth);
  ~ScarceMemory();
  ScarceMemory(const ScarceMemory&) = delete;
  ScarceMemory& operator=(const ScarceMemory&) = delete;

  bool ran_out() const;
};

}  // namespace swapmem::test
