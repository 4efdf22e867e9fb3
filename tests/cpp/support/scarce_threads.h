// Threads that run out: the nth that the calling thread starts from now on, and all after it, are
// refused by the system.
#pragma once

#include <cstdint>

namespace swapmem::test {

class ScarceThreads {
 public:
  explicit ScarceThreads(std::uint64_t nth);
  ~ScarceThreads();
  ScarceThreads(const ScarceThreads&) = delete;
  ScarceThreads& operator=(const ScarceThreads&) = delete;
};

}  // namespace swapmem::test
