#include "support/gate.h"

#include <algorithm>
#include <chrono>

#include "check.h"

namespace swapmem::test {

namespace {

constexpr std::chrono::seconds patience{60};

std::mutex registry_mutex;
std::vector<Gate*> registry;

}  // namespace

Gate::Gate() {
  std::lock_guard lock(registry_mutex);
  registry.push_back(this);
}

Gate::~Gate() {
  std::lock_guard lock(registry_mutex);
  registry.erase(std::find(registry.begin(), registry.end(), this));
}

void Gate::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  permits_ = 0;
}

void Gate::open() {
  std::lock_guard lock(mutex_);
  closed_ = false;
  changed_.notify_all();
}

void Gate::let_pass(std::size_t calls) {
  std::lock_guard lock(mutex_);
  permits_ += calls;
  changed_.notify_all();
}

void Gate::await_waiting(std::size_t calls) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, patience, [&] { return waiting_ >= calls; })) {
    lock.unlock();
    check::fail(__FILE__, __LINE__, "nobody came to the gate");
  }
}

std::size_t Gate::waiting() const {
  std::lock_guard lock(mutex_);
  return waiting_;
}

void Gate::pass() {
  std::unique_lock lock(mutex_);
  if (!closed_) return;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !closed_ || permits_ > 0; });
  --waiting_;
  if (closed_) --permits_;
}

void Gate::open_all() {
  std::lock_guard lock(registry_mutex);
  for (Gate* gate : registry) gate->open();
}

}  // namespace swapmem::test
