// A CUDA driver without a GPU, which enforces the contract harder than a real one. This header is
// how tests steer it and ask it; the driver's own functions are those of cuda/abi.h.
//
// - Device memory is real memory at the addresses that were mapped. Access before cuMemSetAccess or
//   after cuMemUnmap is a fault. One handle may be mapped at several addresses.
// - Work that was given to a stream is only queued. It is executed when somebody waits for it or
//   queries it, or by fake_run, and never by a thread of the driver's own. Among the streams that
//   could go on, the seed chooses.
// - Order is judged when work is given, by vector clocks over streams, events and the host (all
//   host threads together): two accesses to the same bytes, one of them a write, that nothing puts
//   in order are reported whatever order they happened to be executed in.
// - Time is virtual: a clock for each host thread and stream, a time line for each direction of the
//   link. Time passes from one host thread to another only with what it hands over (memory,
//   events).
// - What a correct program never does is reported, besides the error it gets.
// - After fork the child gets CUDA_ERROR_NOT_INITIALIZED, and a fault where the memory was.
// - At exit, reports that nobody cleared and objects that nobody destroyed are printed, and the
//   process ends with status 97 unless SWAPMEM_FAKE_CUDA_EXIT is "tell" or "quiet".
//
// Every function may be called from any thread. Nothing here is for use while another thread is in
// fake_reset.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/abi.h"

#define FAKE_API extern "C" __attribute__((visibility("default")))

// As after loading: one device with 8 GiB, everything takes no time, seed 0, no failures. Whatever
// was alive is gone. A driver that was initialised still is.
FAKE_API void fake_reset();

// Before the first primary context is retained.
FAKE_API void fake_set_devices(int count, std::size_t memory_bytes);
FAKE_API void fake_set_virtual_memory(int supported);  // the device attribute
FAKE_API void fake_set_version(int version);           // cuDriverGetVersion
FAKE_API void fake_set_pinned_limit(std::size_t bytes);
FAKE_API void fake_set_garbage(int fill);  // 1: new memory is filled with 0xCD (the default)
FAKE_API void fake_set_granularity(std::size_t bytes);  // of device memory; a multiple of 4 KiB
FAKE_API void fake_set_reuse(int reuse);  // 1: a new stream gets the handle of a destroyed one
FAKE_API void fake_hide(const char* function);  // cuGetProcAddress says it needs a newer version

// 0 runs what could start first in virtual time, and is what measures of time want.
FAKE_API void fake_seed(std::uint64_t seed);
FAKE_API int fake_run(int steps);  // executes queued work; how much there was
FAKE_API void fake_hold(swapmem::cuda::CUstream stream, int held);  // its work waits meanwhile

// A kernel: `function(argument)` runs in stream order, and touches what `ranges` say (device
// memory or registered host memory). It takes `seconds`. It may not call the driver.
struct FakeRange {
  unsigned long long address;
  std::size_t bytes;
  int write;
};
FAKE_API swapmem::cuda::CUresult fake_launch(swapmem::cuda::CUstream stream, const char* name,
                                             void (*function)(void*), void* argument,
                                             const FakeRange* ranges, int count, double seconds);
// What the host itself does with registered host memory, now.
FAKE_API void fake_host_access(const void* host, std::size_t bytes, int write);

// The nth call from now on (1 is the next) of this function, or of any ("*"), returns `result` and
// does nothing else; so do all after it if `for_ever`. Several may be set.
FAKE_API void fake_fail(const char* function, std::uint64_t nth, int result, int for_ever);
FAKE_API void fake_fail_none();
FAKE_API std::uint64_t fake_calls(const char* function);  // "*": all together
// From now on everything that needs this device's context returns `result`.
FAKE_API void fake_break_context(int ordinal, int result);

// Bytes per second; 0 takes no time.
struct FakeRates {
  double to_host;
  double to_device;
  double within_device;
  int shared;  // both directions use one time line
};
// Seconds for each handle (mapping) that a call is about. The driver does one such call at a time.
struct FakeCosts {
  double create;
  double map;
  double set_access;
  double unmap;
  double release;
};
FAKE_API void fake_set_rates(const FakeRates* rates);
FAKE_API void fake_set_costs(const FakeCosts* costs);
// What the host's threads lose: to give a copy to a stream takes the driver `queue` seconds, as
// calls about memory take it time; a thread that sleeps until work is done goes on `wake` seconds
// after that.
struct FakeDelays {
  double queue;
  double wake;
};
FAKE_API void fake_set_delays(const FakeDelays* delays);
// Every call of the driver that took the calling thread time calls this at its end, without a lock.
FAKE_API void fake_on_delay(void (*function)());
FAKE_API double fake_seconds();                  // the calling thread's clock
FAKE_API void fake_advance(double seconds);      // the calling thread computes
FAKE_API double fake_link_seconds(int to_host);  // how long a direction has been busy

enum FakeReportKind {
  FAKE_UNORDERED = 1,        // two accesses to the same bytes
  FAKE_MEMORY_IN_USE = 2,    // unmapped or freed before work that uses it was waited for
  FAKE_HOST_IN_USE = 3,      // the same of host memory: unregistered or freed
  FAKE_ILLEGAL_ADDRESS = 4,  // work came to memory that was not there any more
  FAKE_PAGEABLE = 5,         // an asynchronous copy from or to memory that is not registered
  FAKE_MISUSE = 6,           // a handle that never was or is no more, a doubled call, a bad address
};
FAKE_API std::size_t fake_report_count(int kind);  // 0: of every kind
// The text of the first reports, one a line; how many bytes it takes with its end.
FAKE_API std::size_t fake_reports(char* text, std::size_t capacity);
FAKE_API void fake_clear_reports();

struct FakeCounts {
  std::size_t handles;
  std::size_t handle_bytes;
  std::size_t mappings;
  std::size_t reservations;
  std::size_t allocations;  // cuMemAlloc, cuMemAllocManaged
  std::size_t registrations;
  std::size_t registered_bytes;
  std::size_t host_allocations;
  std::size_t streams;
  std::size_t events;
  std::size_t contexts;  // retained and not yet released
  std::size_t queued;    // not executed
};
FAKE_API void fake_counts(FakeCounts* counts);
