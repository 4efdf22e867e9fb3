#include "fake_driver/faults.h"

#include <algorithm>

namespace fake {

using namespace swapmem::cuda;

void Faults::set(const std::string& function, std::uint64_t nth, int result, bool for_ever) {
  orders_.push_back(
      {function, std::max<std::uint64_t>(nth, 1), static_cast<CUresult>(result), for_ever});
}

CUresult Faults::next(const char* function) {
  ++calls_[function];
  ++calls_["*"];
  CUresult result = CUDA_SUCCESS;
  for (Order& order : orders_) {
    if (order.function != "*" && order.function != function) continue;
    if (order.calls_left == 0) continue;
    if (--order.calls_left != 0) continue;
    result = order.result;
    if (order.for_ever) order.calls_left = 1;
  }
  return result;
}

std::uint64_t Faults::calls(const std::string& function) const {
  const auto found = calls_.find(function);
  return found == calls_.end() ? 0 : found->second;
}

}  // namespace fake
