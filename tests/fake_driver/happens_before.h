// Which accesses come after which. A step of an actor knows what the actor knew before, and what
// it was made to wait for; an access comes after another if it knows that one's step.
#pragma once

#include <string>

#include "fake_driver/fake_driver.h"
#include "fake_driver/shadow.h"
#include "fake_driver/work.h"

namespace fake {

class World;

class HappensBefore {
 public:
  explicit HappensBefore(World& world) : world_(world) {}

  Actor new_actor() { return ++actors_; }

  // What the host knows. It learns what it waits for.
  const VectorClock& host() const { return host_; }
  void host_learns(const VectorClock& known) { host_.join(known); }

  // Work is given to a stream: notes what it touches, and reports what it is not ordered with.
  void give(const std::shared_ptr<Work>& work, Actor actor, std::uint64_t step);
  // The host touches registered memory itself.
  void host_touches(const Range& range);
  // Memory is taken away from under its users.
  void taken(const Uses& uses, FakeReportKind kind, const std::string& what);

 private:
  void touch(const Range& range, const Access& access, const VectorClock& known,
             std::vector<Access>& before);

  World& world_;
  Actor actors_ = the_host;
  VectorClock host_;
  std::uint64_t host_steps_ = 0;
};

}  // namespace fake
