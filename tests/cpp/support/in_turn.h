// A device and a store whose calls are made in the order of virtual time, and the time that all of
// them took together.
//
// The fake driver has a clock for each thread, and the real order of calls is whatever the system
// makes of it. Here a call waits until every worker stands before one, or none more comes, and the
// one whose clock is earliest goes first: the workers are then as parallel in virtual time as they
// would be on a machine of their own.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "fake_driver/fake_driver.h"
#include "support/forwarding.h"

namespace swapmem::test {

class Turns {
 public:
  // The calling thread is not one of the workers.
  explicit Turns(std::size_t workers) : workers_(workers) {}

  // Virtual seconds of the calls that `body` and the workers make meanwhile, from now to the end of
  // the last one.
  template <typename Body>
  double measure(Body body) {
    begin();
    body();
    return end();
  }

  template <typename Call>
  auto take(Call call) {
    const Turn turn(*this);
    return call();
  }

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Waiting = std::set<std::pair<double, std::uint64_t>>;

  // A worker that comes later than this after the others has nothing to do, it is taken. One that
  // was only slow makes the result a little worse.
  static constexpr std::chrono::milliseconds patience{5};

  class Turn {
   public:
    explicit Turn(Turns& turns) : turns_(turns) { turns_.enter(); }
    ~Turn() { turns_.leave(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Turns& turns_;
  };

  void begin() {
    Lock lock(mutex_);
    measuring_ = true;
    now_seconds_ = begin_seconds_ = last_seconds_ = std::max(last_seconds_, fake_seconds());
  }
  double end() {
    Lock lock(mutex_);
    measuring_ = false;
    return last_seconds_ - begin_seconds_;
  }

  void enter() {
    Lock lock(mutex_);
    if (measuring_) {
      const bool worker = std::this_thread::get_id() != owner_;
      // Who had nothing to do was given it at the earliest now.
      const double ready_seconds = std::max(fake_seconds(), now_seconds_);
      const auto me = waiting_.insert({ready_seconds, ++arrivals_}).first;
      if (worker) ++workers_waiting_;
      changed_.notify_all();
      const auto first = [&] { return !busy_ && waiting_.begin() == me; };
      while (!first() || workers_waiting_ < workers_) {
        const bool quiet = changed_.wait_for(lock, patience) == std::cv_status::timeout;
        if (quiet && first()) break;
      }
      waiting_.erase(me);
      if (worker) --workers_waiting_;
      now_seconds_ = ready_seconds;
    } else {
      changed_.wait(lock, [&] { return !busy_; });
    }
    busy_ = true;
    fake_advance(std::max(0.0, now_seconds_ - fake_seconds()));
  }

  void leave() {
    Lock lock(mutex_);
    busy_ = false;
    last_seconds_ = std::max(last_seconds_, fake_seconds());
    changed_.notify_all();
  }

  const std::size_t workers_;
  const std::thread::id owner_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool measuring_ = false;
  bool busy_ = false;
  Waiting waiting_;  // by clock, then by arrival
  std::uint64_t arrivals_ = 0;
  std::size_t workers_waiting_ = 0;
  double now_seconds_ = 0;    // when the last call began
  double begin_seconds_ = 0;  // of the measurement
  double last_seconds_ = 0;   // when the last call ended
};

class DeviceInTurn : public ForwardingDevice {
 public:
  DeviceInTurn(std::unique_ptr<Device> inner, Turns& turns)
      : ForwardingDevice(std::move(inner)), turns_(turns) {}

  void commit(Span span) override {
    turns_.take([&] { inner_->commit(span); });
  }
  void commit_staging(Span span) override {
    turns_.take([&] { inner_->commit_staging(span); });
  }
  void decommit(Span span, const Fences& last_use) override {
    turns_.take([&] { inner_->decommit(span, last_use); });
  }
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override {
    turns_.take([&] { inner_->move(from, to, bytes, last_use); });
  }
  Address begin_fill(Span staging, Span block) override {
    return turns_.take([&] { return inner_->begin_fill(staging, block); });
  }
  void finish_fill(Span staging, Span block) override {
    turns_.take([&] { inner_->finish_fill(staging, block); });
  }

 private:
  Turns& turns_;
};

class StoreInTurn : public ForwardingStore {
 public:
  StoreInTurn(std::unique_ptr<Store> inner, Turns& turns)
      : ForwardingStore(std::move(inner)), turns_(turns) {}

  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    turns_.take([&] { inner_->write(slot, offset, from, bytes); });
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    turns_.take([&] { inner_->read(slot, offset, to, bytes); });
  }

 private:
  Turns& turns_;
};

}  // namespace swapmem::test
