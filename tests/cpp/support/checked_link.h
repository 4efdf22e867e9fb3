// A link that copies with memcpy and holds its user to what a real one demands: host memory has to
// lie in one pinned range, ranges do not overlap, and what was pinned is unpinned. With gates, and
// calls that fail when they are told to.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "check.h"
#include "core/errors.h"
#include "core/link.h"
#include "support/faulty.h"
#include "support/gate.h"

namespace swapmem::test {

class CheckedLink : public Link {
 public:
  Gate pins, copies_out, copies_in;
  Faults* faults = nullptr;         // of pins and copies; set before the link is used
  std::atomic<Fence> copied_in{0};  // copies in so far: the position in their fences
  std::size_t most_pinned_bytes = ~std::size_t{0};  // more is refused, as by RLIMIT_MEMLOCK

  void pin(void* host, std::size_t bytes) override {
    pins.pass();
    ask("pin");
    std::lock_guard lock(mutex_);
    if (pinned_bytes_ + bytes > most_pinned_bytes) {
      throw DeviceError("cannot lock more than " + std::to_string(most_pinned_bytes) + " bytes",
                        ENOMEM);
    }
    const auto* begin = static_cast<const char*>(host);
    const auto after = ranges_.lower_bound(begin);
    const bool overlaps =
        (after != ranges_.end() && after->first < begin + bytes) ||
        (after != ranges_.begin() && std::prev(after)->first + std::prev(after)->second > begin);
    if (overlaps) complain("pinned twice");
    ranges_[begin] = bytes;
    pinned_bytes_ += bytes;
    peak_pinned_bytes_ = std::max(peak_pinned_bytes_, pinned_bytes_);
    pinning_threads_.insert(std::this_thread::get_id());
  }
  void unpin(void* host, std::size_t bytes) noexcept override {
    std::lock_guard lock(mutex_);
    const auto range = ranges_.find(static_cast<const char*>(host));
    if (range == ranges_.end() || range->second != bytes) return complain("unpinned what is not");
    ranges_.erase(range);
    pinned_bytes_ -= bytes;
  }
  void copy_out(void* host, const void* device, std::size_t bytes) override {
    ask("copy out");
    demand_pinned(host, bytes);
    copies_out.pass();
    std::memcpy(host, device, bytes);
  }
  void copy_in(void* device, const void* host, std::size_t bytes, const Queued& queued) override {
    ask("copy in");
    demand_pinned(host, bytes);
    copies_in.pass();
    const Fence position = ++copied_in;
    if (queued) queued(Fence{1} << fence_stream_shift | position);
    std::memcpy(device, host, bytes);
  }

  std::size_t pinned_bytes() const {
    std::lock_guard lock(mutex_);
    return pinned_bytes_;
  }
  std::size_t peak_pinned_bytes() const {
    std::lock_guard lock(mutex_);
    return peak_pinned_bytes_;
  }
  std::set<std::thread::id> pinning_threads() const {
    std::lock_guard lock(mutex_);
    return pinning_threads_;
  }
  std::string complaint() const {  // the first rule that was broken; "" if none was
    std::lock_guard lock(mutex_);
    return complaint_;
  }

 private:
  void ask(const char* what) {
    if (faults != nullptr && faults->fails()) {
      throw DeviceError(std::string("injected fault: ") + what, EIO);
    }
  }
  void complain(const char* what) {
    if (complaint_.empty()) complaint_ = what;
  }
  void demand_pinned(const void* host, std::size_t bytes) {
    std::lock_guard lock(mutex_);
    const auto* begin = static_cast<const char*>(host);
    const auto after = ranges_.upper_bound(begin);
    if (after != ranges_.begin()) {
      const auto range = std::prev(after);
      if (begin + bytes <= range->first + range->second) return;
    }
    complain("copied to or from memory that is not in one pinned range");
    throw DeviceError("host memory is not pinned", EINVAL);
  }

  mutable std::mutex mutex_;
  std::map<const char*, std::size_t> ranges_;
  std::size_t pinned_bytes_ = 0;
  std::size_t peak_pinned_bytes_ = 0;
  std::set<std::thread::id> pinning_threads_;
  std::string complaint_;
};

// Ends a store over the link, for a destructor that may throw: the link has nothing to complain
// about then, and nothing stays pinned.
template <typename Store>
void end(std::unique_ptr<Store>& store, const CheckedLink& link) {
  const bool failed = std::uncaught_exceptions() > 0;
  if (failed) Gate::open_all();  // or threads would wait for ever
  store.reset();
  if (failed) return;
  CHECK_EQUAL(link.complaint(), "");
  CHECK_EQUAL(link.pinned_bytes(), 0u);
}

}  // namespace swapmem::test
