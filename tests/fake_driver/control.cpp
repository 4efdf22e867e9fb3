// What tests say to the fake, and ask it.
#include "fake_driver/fake_driver.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "fake_driver/world.h"

using fake::Lock;
using fake::the_world;

namespace {

template <typename Body>
auto locked(Body body) {
  Lock lock(fake::driver_mutex());
  return body(the_world(), lock);
}

}  // namespace

FAKE_API void fake_reset() {
  Lock lock(fake::driver_mutex());
  fake::new_world();
}

FAKE_API void fake_set_devices(int count, std::size_t memory_bytes) {
  locked([&](auto& world, Lock&) {
    world.contexts.device_count = count;
    world.contexts.memory_bytes = memory_bytes;
  });
}

FAKE_API void fake_set_virtual_memory(int supported) {
  locked([&](auto& world, Lock&) { world.contexts.virtual_memory = supported != 0; });
}

FAKE_API void fake_set_version(int version) {
  locked([&](auto& world, Lock&) { world.contexts.version = version; });
}

FAKE_API void fake_set_pinned_limit(std::size_t bytes) {
  locked([&](auto& world, Lock&) { world.host_memory.limit_bytes = bytes; });
}

FAKE_API void fake_set_garbage(int fill) {
  locked([&](auto& world, Lock&) { world.device_memory.garbage = fill != 0; });
}

FAKE_API void fake_set_granularity(std::size_t bytes) {
  locked([&](auto& world, Lock&) { world.device_memory.granularity_bytes = bytes; });
}

FAKE_API void fake_set_reuse(int reuse) {
  locked([&](auto& world, Lock&) { world.streams.reuse_handles = reuse != 0; });
}

FAKE_API void fake_hide(const char* function) {
  locked([&](auto& world, Lock&) { world.hidden.push_back(function); });
}

FAKE_API void fake_seed(std::uint64_t seed) {
  locked([&](auto& world, Lock&) { world.streams.seed(seed); });
}

FAKE_API int fake_run(int steps) {
  return locked([&](auto& world, Lock& lock) {
    int done = 0;
    while (done < steps && world.streams.step(lock)) ++done;
    return done;
  });
}

FAKE_API void fake_hold(swapmem::cuda::CUstream stream, int held) {
  locked([&](auto& world, Lock&) { world.streams.hold(stream, held != 0); });
}

FAKE_API void fake_host_access(const void* host, std::size_t bytes, int write) {
  locked([&](auto& world, Lock&) {
    world.happens_before.host_touches(
        {reinterpret_cast<swapmem::cuda::CUdeviceptr>(host), bytes, write != 0});
  });
}

FAKE_API void fake_fail(const char* function, std::uint64_t nth, int result, int for_ever) {
  locked([&](auto& world, Lock&) { world.faults.set(function, nth, result, for_ever != 0); });
}

FAKE_API void fake_fail_none() {
  locked([](auto& world, Lock&) { world.faults.clear(); });
}

FAKE_API std::uint64_t fake_calls(const char* function) {
  return locked([&](auto& world, Lock&) { return world.faults.calls(function); });
}

FAKE_API void fake_break_context(int ordinal, int result) {
  locked([&](auto& world, Lock&) {
    fake::Context* context = world.contexts.find(world.contexts.primary(ordinal));
    if (context != nullptr) context->broken = static_cast<swapmem::cuda::CUresult>(result);
  });
}

FAKE_API void fake_set_rates(const FakeRates* rates) {
  locked([&](auto& world, Lock&) { world.time.rates = *rates; });
}

FAKE_API void fake_set_costs(const FakeCosts* costs) {
  locked([&](auto& world, Lock&) { world.time.costs = *costs; });
}

FAKE_API void fake_set_delays(const FakeDelays* delays) {
  locked([&](auto& world, Lock&) { world.time.delays = *delays; });
}

FAKE_API void fake_on_delay(void (*function)()) {
  fake::on_delay() = function;
}

FAKE_API double fake_seconds() {
  return locked([](auto& world, Lock&) { return world.time.now(); });
}

FAKE_API void fake_advance(double seconds) {
  locked([&](auto& world, Lock&) { world.time.now() += seconds; });
}

FAKE_API double fake_link_seconds(int to_host) {
  return locked([&](auto& world, Lock&) { return world.time.line(to_host != 0)->busy_seconds(); });
}

FAKE_API std::size_t fake_report_count(int kind) {
  return locked([&](auto& world, Lock&) { return world.reports.count(kind); });
}

FAKE_API std::size_t fake_reports(char* text, std::size_t capacity) {
  return locked([&](auto& world, Lock&) {
    const std::string all = world.reports.text();
    if (capacity != 0) {
      const std::size_t part = std::min(all.size(), capacity - 1);
      std::memcpy(text, all.data(), part);
      text[part] = '\0';
    }
    return all.size() + 1;
  });
}

FAKE_API void fake_clear_reports() {
  locked([](auto& world, Lock&) { world.reports.clear(); });
}

FAKE_API void fake_counts(FakeCounts* counts) {
  *counts = locked([](auto& world, Lock&) { return world.counts(); });
}
