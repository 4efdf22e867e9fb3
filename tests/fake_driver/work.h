// One thing that was given to a stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/abi.h"
#include "fake_driver/vector_clock.h"

namespace fake {

class TimeLine;

// Bytes that a piece of work touches: device memory, or host memory that is registered. Of copies
// that return when they are done, host memory may be any.
struct Range {
  swapmem::cuda::CUdeviceptr address = 0;
  std::size_t bytes = 0;
  bool write = false;
  bool pageable = false;
};

struct Work {
  std::string name;
  std::uint64_t number = 0;  // in the order of submission, from 1
  std::vector<Range> ranges;
  std::function<void()> body;    // may be empty
  bool calls_user_code = false;  // its body runs without the driver's lock
  bool tells_host = false;       // the host knows what it knew, once it has run

  // It may start when these are done. Cleared then, so that no chain of past work is kept.
  std::vector<std::shared_ptr<Work>> after;
  // Work whose bytes it uses: it cannot have started before, in virtual time.
  std::vector<std::shared_ptr<Work>> uses_of;
  VectorClock known;

  double submitted_seconds = 0;
  double cost_seconds = 0;
  TimeLine* line = nullptr;  // what it occupies meanwhile
  double finished_seconds = 0;

  bool running = false;
  bool done = false;
};

}  // namespace fake
