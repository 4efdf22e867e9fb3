#include "fake_driver/virtual_time.h"

#include <algorithm>
#include <atomic>
#include <iterator>

namespace fake {

double TimeLine::occupy(double ready_seconds, double seconds) {
  if (seconds <= 0) return ready_seconds;
  double start = ready_seconds;
  auto next = busy_.upper_bound(ready_seconds);
  if (next != busy_.begin()) start = std::max(start, std::prev(next)->second);
  while (next != busy_.end() && next->first - start < seconds) {
    start = next->second;
    ++next;
  }
  const double end = start + seconds;
  busy_seconds_ += seconds;
  auto piece = busy_.emplace_hint(next, start, end);
  if (piece != busy_.begin() && std::prev(piece)->second == start) {
    const auto before = std::prev(piece);
    before->second = end;
    busy_.erase(piece);
    piece = before;
  }
  if (next != busy_.end() && next->first == end) {
    piece->second = next->second;
    busy_.erase(next);
  }
  return end;
}

std::uint64_t VirtualTime::next_life() {
  static std::atomic<std::uint64_t> lives{0};
  return ++lives;
}

double& VirtualTime::now() {
  thread_local std::uint64_t life = 0;
  thread_local double seconds = 0;
  if (life != life_) {
    life = life_;
    seconds = 0;
  }
  return seconds;
}

void VirtualTime::not_before(double seconds) {
  now() = std::max(now(), seconds);
}

void VirtualTime::serve(double cost_seconds, std::size_t handles) {
  now() = driver_.occupy(now(), cost_seconds * static_cast<double>(handles));
}

}  // namespace fake
