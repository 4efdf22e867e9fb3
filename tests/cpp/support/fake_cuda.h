// A fresh fake driver for a test, streams on it, and kernels that write and check bytes.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/device.h"
#include "cuda/context.h"
#include "cuda/streams.h"
#include "support/bytes.h"
#include "support/fake_state.h"

namespace swapmem::test {

// Bytes at both ends of every piece of memory: that is where a mapping can go wrong, and as much as
// a test has the time to look at.
constexpr std::size_t mark_stride_bytes = std::size_t{2} << 20;
constexpr std::size_t mark_bytes = 512;

inline void mark(Address address, std::size_t bytes, std::uint64_t cookie) {
  for (std::size_t at = 0; at < bytes; at += mark_stride_bytes) {
    fill(address + at, mark_bytes, cookie + at);
    const std::size_t end = std::min(bytes, at + mark_stride_bytes);
    fill(address + end - mark_bytes, mark_bytes, cookie + end);
  }
}

inline bool marked(Address address, std::size_t bytes, std::uint64_t cookie) {
  bool good = true;
  for (std::size_t at = 0; at < bytes; at += mark_stride_bytes) {
    const std::size_t end = std::min(bytes, at + mark_stride_bytes);
    good = good && holds(address + at, mark_bytes, cookie + at) &&
           holds(address + end - mark_bytes, mark_bytes, cookie + end);
  }
  return good;
}

class FakeCuda {
 public:
  explicit FakeCuda(int devices = 1, std::size_t memory_bytes = std::size_t{1} << 30) {
    fake_reset();
    fake_set_devices(devices, memory_bytes);
    fake_seed(check::seed());
    cuda::driver().cuInit(0);
  }
  // Nothing may be reported and nothing be left.
  void finish() const {
    CHECK_EQUAL(report_text(), "");
    const FakeCounts left = counts();
    CHECK_EQUAL(left.handles, 0u);
    CHECK_EQUAL(left.mappings, 0u);
    CHECK_EQUAL(left.reservations, 0u);
    CHECK_EQUAL(left.registrations, 0u);
    CHECK_EQUAL(left.streams, 0u);
    CHECK_EQUAL(left.events, 0u);
    CHECK_EQUAL(left.contexts, 0u);
  }
};

// A stream as a program makes it, in the primary context of a device.
class FakeStream {
 public:
  explicit FakeStream(int ordinal = 0) : context_(ordinal) {
    const cuda::Context::Scope scope(context_);
    cuda::check(cuda::driver().cuStreamCreate(&stream_, cuda::CU_STREAM_NON_BLOCKING), "create");
  }
  ~FakeStream() {
    let_go();  // a failed test may still hold it, and the device waits for its work
    destroy();
  }
  FakeStream(const FakeStream&) = delete;
  FakeStream& operator=(const FakeStream&) = delete;

  void destroy() {
    if (stream_ == nullptr) return;
    const cuda::Context::Scope scope(context_);
    cuda::driver().cuStreamDestroy(stream_);
    stream_ = nullptr;
  }
  void hold() { fake_hold(stream_, 1); }
  void let_go() {
    if (stream_ != nullptr) fake_hold(stream_, 0);
  }
  void synchronize() {
    const cuda::Context::Scope scope(context_);
    cuda::check(cuda::driver().cuStreamSynchronize(stream_), "synchronize");
  }
  operator cuda::CUstream() const { return stream_; }

  // Kernels. The check says at `good` how it went.
  void mark(Address address, std::size_t bytes, std::uint64_t cookie) {
    launch("mark", address, bytes, true, [=] { test::mark(address, bytes, cookie); });
  }
  void check(Address address, std::size_t bytes, std::uint64_t cookie, std::atomic<int>& good) {
    launch("check", address, bytes, false,
           [=, &good] { good += marked(address, bytes, cookie) ? 1 : 0; });
  }

 private:
  void launch(const char* name, Address address, std::size_t bytes, bool write,
              std::function<void()> body) {
    const FakeRange range{address, bytes, write ? 1 : 0};
    auto* argument = new std::function<void()>(std::move(body));
    const auto run = [](void* given) {
      const std::unique_ptr<std::function<void()>> owned(
          static_cast<std::function<void()>*>(given));
      (*owned)();
    };
    const cuda::Context::Scope scope(context_);
    cuda::check(fake_launch(stream_, name, run, argument, &range, 1, 0), name);
  }

  const cuda::Context context_;
  cuda::CUstream stream_ = nullptr;
};

}  // namespace swapmem::test
