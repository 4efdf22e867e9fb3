// Runs the threads of a program one at a time, in the order of the fake driver's virtual time: what
// the program does is then the same on every machine and in every run, and happens when it would on
// a machine that has a processor for each thread.
//
// A thread goes on until it waits on a condition variable, or until a call of the driver has taken
// it time; then whoever is earliest goes on. A thread that is woken is as late as the one that woke
// it. What threads do between calls of the driver takes no time.
//
// An executable that is linked with this has condition variables of its own, in place of the
// system's: only so is it known who waits. Waits with a time limit stay the system's. Its steady
// clock is that of the calling thread in virtual time.
#pragma once

namespace swapmem::test {

class OneAtATime {
 public:
  // The calling thread goes first. The others have to come to a wait by themselves.
  OneAtATime();
  // From here on they run as the system lets them.
  ~OneAtATime();
  OneAtATime(const OneAtATime&) = delete;
  OneAtATime& operator=(const OneAtATime&) = delete;
};

}  // namespace swapmem::test
