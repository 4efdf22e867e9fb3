// How long copies were under way, each way and both ways at once.
#pragma once

#include "core/transfer.h"

namespace swapmem {

// Time in which at least one of several overlapping activities was under way.
class BusyTime {
 public:
  void begin(double now) {
    if (active_++ == 0) since_ = now;
  }
  void end(double now) {
    if (--active_ == 0) seconds_ += now - since_;
  }
  bool active() const { return active_ > 0; }
  double seconds(double now) const { return seconds_ + (active() ? now - since_ : 0); }

 private:
  int active_ = 0;
  double since_ = 0;
  double seconds_ = 0;
};

class LinkTime {
 public:
  void begin(Direction direction, double now) {
    way(direction).begin(now);
    if (out_.active() && in_.active() && !both_.active()) both_.begin(now);
  }
  void end(Direction direction, double now) {
    way(direction).end(now);
    if (both_.active() && !way(direction).active()) both_.end(now);
  }
  double out_seconds(double now) const { return out_.seconds(now); }
  double in_seconds(double now) const { return in_.seconds(now); }
  double both_seconds(double now) const { return both_.seconds(now); }

 private:
  BusyTime& way(Direction direction) { return direction == Direction::out ? out_ : in_; }

  BusyTime out_;
  BusyTime in_;
  BusyTime both_;
};

}  // namespace swapmem
