// What an actor (a stream, or the host) knows of the others: up to which of their steps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fake {

using Actor = std::uint32_t;
inline constexpr Actor the_host = 0;  // all host threads together

class VectorClock {
 public:
  std::uint64_t at(Actor actor) const { return actor < steps_.size() ? steps_[actor] : 0; }

  void set(Actor actor, std::uint64_t step) {
    if (actor >= steps_.size()) steps_.resize(actor + 1);
    steps_[actor] = step;
  }

  void join(const VectorClock& other) {
    if (other.steps_.size() > steps_.size()) steps_.resize(other.steps_.size());
    for (std::size_t i = 0; i < other.steps_.size(); ++i) {
      steps_[i] = std::max(steps_[i], other.steps_[i]);
    }
  }

 private:
  std::vector<std::uint64_t> steps_;
};

}  // namespace fake
