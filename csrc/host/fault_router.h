// Touches of memory that is swapped out, made into calls of Engine::fault.
//
// A SIGSEGV at an address of a registered engine is handed to a service thread over a pipe; the
// touching thread sleeps in the handler until the engine has served it, then repeats the touch.
// Where userfaultfd is allowed (user_fault.h), the same thread serves its reports as well.
// The handler takes no lock and calls only what a signal handler may. Every other SIGSEGV goes to
// the handler that was there before (faulthandler's, for instance).
//
// What cannot be served (no such array, the copy cannot be read, a forked child) is written to
// standard error in one line, and the previous handler ends the process: there is no way to make
// an exception out of a memory access.
//
// The handler stays installed once it was needed: another may have been put on top of it.
#pragma once

#include <atomic>

#include "core/engine.h"

namespace swapmem::fault_router {

void add(Engine& engine);     // throws DeviceError where no more engines can be registered
void remove(Engine& engine);  // no thread may be touching its blocks any more

// Whether this process is a child of the one that installed the router.
inline std::atomic<bool> forked{false};
inline bool in_forked_child() {
  return forked.load(std::memory_order_relaxed);
}

}  // namespace swapmem::fault_router
