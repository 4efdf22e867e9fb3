// Calls that fail because a test wants them to.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fake_driver/fake_driver.h"

namespace fake {

class Faults {
 public:
  void set(const std::string& function, std::uint64_t nth, int result, bool for_ever);
  void clear() { orders_.clear(); }

  // Counts a call; what it must return, or CUDA_SUCCESS.
  swapmem::cuda::CUresult next(const char* function);
  std::uint64_t calls(const std::string& function) const;

 private:
  struct Order {
    std::string function;
    std::uint64_t calls_left;  // before it applies
    swapmem::cuda::CUresult result;
    bool for_ever;
  };

  std::vector<Order> orders_;
  std::map<std::string, std::uint64_t> calls_;
};

}  // namespace fake
