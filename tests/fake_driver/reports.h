// What a correct program never does, in words.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fake_driver/fake_driver.h"

namespace fake {

class Reports {
 public:
  void add(FakeReportKind kind, const std::string& text);
  // Reports it and gives the error that goes with it.
  swapmem::cuda::CUresult misuse(
      const std::string& text,
      swapmem::cuda::CUresult result = swapmem::cuda::CUDA_ERROR_INVALID_VALUE);

  std::size_t count(int kind) const;
  std::string text() const;
  void clear();

 private:
  std::vector<std::string> first_;  // enough of them to read
  std::vector<std::size_t> counts_ = std::vector<std::size_t>(FAKE_MISUSE + 1);
};

std::string hex(unsigned long long address);

}  // namespace fake
