// What is left when the process ends.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fake_driver/world.h"

namespace fake {
namespace {

constexpr int failed_status = 97;

// Not run before the destructors of static objects, which may still destroy what they hold.
__attribute__((destructor)) void check_at_exit() {
  const char* wish = std::getenv("SWAPMEM_FAKE_CUDA_EXIT");
  const bool quiet = wish != nullptr && std::strcmp(wish, "quiet") == 0;
  const bool tell = wish != nullptr && std::strcmp(wish, "tell") == 0;
  if (quiet || forked()) return;
  World& world = the_world();
  const FakeCounts left = world.counts();
  const std::size_t alive = left.handles + left.mappings + left.reservations + left.allocations +
                            left.registrations + left.host_allocations + left.streams +
                            left.events + left.contexts;
  if (world.reports.count(0) == 0 && alive == 0) return;
  std::fprintf(stderr,
               "fake CUDA driver at exit:\n%shandles %zu, mappings %zu, reservations %zu, "
               "allocations %zu, registrations %zu, host allocations %zu, streams %zu, events %zu, "
               "contexts %zu\n",
               world.reports.text().c_str(), left.handles, left.mappings, left.reservations,
               left.allocations, left.registrations, left.host_allocations, left.streams,
               left.events, left.contexts);
  if (tell) return;
  std::fflush(nullptr);
  _exit(failed_status);
}

}  // namespace
}  // namespace fake
