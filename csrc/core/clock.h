#pragma once

#include <chrono>

namespace swapmem {

// Seconds on the clock of Python's time.monotonic, so that traces line up with user code.
inline double now_seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace swapmem
