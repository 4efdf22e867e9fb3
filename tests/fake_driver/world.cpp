#include "fake_driver/world.h"

#include <unistd.h>

#include <atomic>

namespace fake {
namespace {

std::condition_variable& changed() {
  static auto& instance = *new std::condition_variable;
  return instance;
}

// Never destroyed: it is looked at when the process ends, and may be called after that.
World*& instance() {
  static World* world = new World(changed());
  return world;
}

std::atomic<pid_t> initialised_by{0};

}  // namespace

World::World(std::condition_variable& changed)
    : contexts(*this),
      happens_before(*this),
      device_memory(*this),
      host_memory(*this),
      streams(*this, changed) {}

std::vector<Piece> World::pieces(const Range& range) {
  std::vector<Piece> found;
  device_memory.pieces(range, found);
  host_memory.pieces(range, found);
  return found;
}

FakeCounts World::counts() const {
  FakeCounts counts{};
  device_memory.count(&counts);
  host_memory.count(&counts);
  streams.count(&counts);
  counts.contexts = contexts.retained();
  return counts;
}

std::mutex& driver_mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

World& the_world() {
  return *instance();
}

void new_world() {
  const bool initialised = instance()->contexts.initialised;
  delete instance();
  instance() = new World(changed());
  instance()->contexts.initialised = initialised;
}

bool& in_user_code() {
  thread_local bool inside = false;
  return inside;
}

std::atomic<void (*)()>& on_delay() {
  static std::atomic<void (*)()> function{nullptr};
  return function;
}

bool forked() {
  const pid_t process = initialised_by;
  return process != 0 && process != getpid();
}

void initialised_here() {
  initialised_by = getpid();
}

}  // namespace fake
