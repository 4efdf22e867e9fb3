#pragma once

#include <time.h>

#include <chrono>

namespace swapmem {

// Seconds on the clock of Python's time.monotonic, so that traces line up with user code.
inline double now_seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// What a thread of this process has used of a processor; 0 is the calling thread.
inline double thread_cpu_seconds(int thread) {
  // The kernel's number for the clock of a thread, as pthread_getcpuclockid makes it.
  const clockid_t clock =
      thread == 0 ? CLOCK_THREAD_CPUTIME_ID : static_cast<clockid_t>(~thread * 8 + 6);
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace swapmem
