// Bytes of device memory that may be used at once. A hard limit: charge refuses, it never goes
// over.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>

namespace swapmem {

class Budget {
 public:
  explicit Budget(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}

  std::size_t limit_bytes() const { return limit_bytes_; }
  std::size_t used_bytes() const { return used_bytes_; }
  std::size_t peak_bytes() const { return peak_bytes_; }
  std::size_t room_bytes() const { return limit_bytes_ - used_bytes_; }

  void charge(std::size_t bytes) {
    if (bytes > room_bytes()) throw std::logic_error("charge above the budget");
    used_bytes_ += bytes;
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  }
  void release(std::size_t bytes) {
    if (bytes > used_bytes_) throw std::logic_error("released more than was charged");
    used_bytes_ -= bytes;
  }

 private:
  // used_bytes_ <= peak_bytes_ <= limit_bytes_
  const std::size_t limit_bytes_;
  std::size_t used_bytes_ = 0;
  std::size_t peak_bytes_ = 0;
};

}  // namespace swapmem
