// Everything the driver knows, under one lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <vector>

#include "fake_driver/contexts.h"
#include "fake_driver/device_memory.h"
#include "fake_driver/faults.h"
#include "fake_driver/happens_before.h"
#include "fake_driver/host_memory.h"
#include "fake_driver/reports.h"
#include "fake_driver/streams.h"
#include "fake_driver/virtual_time.h"

namespace fake {

class World {
 public:
  explicit World(std::condition_variable& changed);

  std::vector<Piece> pieces(const Range& range);
  FakeCounts counts() const;

  Reports reports;
  Faults faults;
  VirtualTime time;
  Contexts contexts;
  HappensBefore happens_before;
  DeviceMemory device_memory;
  HostMemory host_memory;
  Streams streams;
  std::vector<std::string> hidden;  // functions that cuGetProcAddress does not give
};

std::mutex& driver_mutex();
// With the lock held.
World& the_world();
void new_world();

// Whether this thread is in a host function or kernel, which may not call the driver.
bool& in_user_code();
// What fake_on_delay was given.
std::atomic<void (*)()>& on_delay();
// Whether this process is a child of the one that initialised the driver.
bool forked();
void initialised_here();

}  // namespace fake
