// Engine: copies between the tiers, and what follows when they complete. The functions that take a
// Lock release it around device and store calls; `prepare_*` and `complete_*` run on workers.
#include <algorithm>
#include <new>
#include <utility>

#include "core/clock.h"
#include "core/engine.h"
#include "core/residency.h"

namespace swapmem {

namespace {

std::size_t copied_bytes(const Block& block) {
  return (block.bytes + page_bytes - 1) / page_bytes * page_bytes;
}

}  // namespace

// --- out: resident -> cleaning -> clean -> evicting -> out

void Engine::start_cleaning(Block& block, Priority priority, bool evict_next) {
  auto job = std::make_shared<Job>();
  job->direction = Direction::out;
  job->address = block.address;
  job->bytes = copied_bytes(block);
  job->prepare = [this, &block](Job& self) { return prepare_cleaning(block, self); };
  job->complete = [this, &block](Job& self) { complete_cleaning(block, self); };
  // Before anything is changed: there may be no memory for it. No worker gets further with it than
  // to the engine's lock.
  queue_->submit(job, priority);
  never_swapped_ = false;
  transition(block, State::cleaning);
  block.error = nullptr;
  block.job = std::move(job);
  ++under_way_;
  if (evict_next) {
    block.evict_next = true;
    leaving_bytes_ += block.capacity_bytes;
  }
}

// For copies that nobody waits for yet. False if there is no memory for what one takes.
bool Engine::try_cleaning(Block& block, Priority priority, bool evict_next) {
  try {
    start_cleaning(block, priority, evict_next);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void Engine::request_eviction(Block& block) {
  block.evict_next = true;
  leaving_bytes_ += block.capacity_bytes;
  queue_->raise(block.job, Priority::demand_out);
}

void Engine::forget_eviction(Block& block) {
  if (!block.evict_next) return;
  block.evict_next = false;
  leaving_bytes_ -= block.capacity_bytes;
}

std::size_t Engine::prepare_cleaning(Block& block, Job& job) {
  Fences last_use;
  {
    Lock lock(mutex_);
    if (job.cancelled) return 0;
    last_use = block.last_use;
    job.preparing = true;
  }
  std::exception_ptr error;
  try {
    for (const Fence fence : last_use) device_->wait(fence);
    begin_copy(job);
    job.slot = store_->reserve(job.bytes);
    device_->protect(block.span(), Access::read);
  } catch (...) {
    error = std::current_exception();
  }
  Lock lock(mutex_);
  job.preparing = false;
  changed();
  if (error) std::rethrow_exception(error);
  return job.cancelled ? 0 : job.bytes;
}

void Engine::complete_cleaning(Block& block, Job& job) {
  Slot unused;
  Lock lock(mutex_);
  const double now = now_seconds();
  const double duplex_bytes = end_copy(job, now);
  const bool copied = !job.cancelled && !job.error;
  block.job.reset();
  if (copied) {
    block.last_use.clear();
    block.copy = job.slot;
    transition(block, State::clean);
    totals_.swap_out_bytes += job.bytes;
    totals_.swap_out_duplex_bytes += duplex_bytes;
    ++totals_.swap_out_count;
    record(EventKind::swap_out, &block, job.bytes, block.op, now - job.begun_seconds);
  } else {
    unused = job.slot;
    transition(block, State::resident);
  }
  const bool leaving = block.evict_next;
  forget_eviction(block);
  if (job.error && !job.cancelled) {
    ++errors_;
    ++totals_.transfer_errors;
    block.error = last_error_ = job.error;
    block.busy = true;
    lock.unlock();
    bool refused = false;
    try {
      device_->protect(block.span(), Access::read_write);
    } catch (const DeviceError&) {
      refused = true;  // it stays readable; a write will ask again
    }
    lock.lock();
    block.busy = false;
    block.sealed = refused;
  }
  if (block.freed && !block.busy) {
    finish_free(block);
    block.sealed = true;  // cancelled before or after it was made read-only
  } else if (copied && leaving && block.holds == 0) {
    try_evict(lock, block);
    fetch_planned(lock);
    // Others have the memory by now, and wait for nothing that the device has put off.
    lock.unlock();
    device_->tidy();
    lock.lock();
  }
  release(lock, unused);  // before drain may return
  --under_way_;
  changed();
}

void Engine::evict(Lock& lock, Block& block) {
  // The memory moves behind a cold block's addresses, where it waits for its next user.
  Block* parked = frames_.take_cold(size_class(block.capacity_bytes));
  parked->last_use = std::exchange(block.last_use, {});
  if (block.listed) policy_->remove(block);
  block.error = nullptr;
  transition(block, State::evicting);
  leaving_bytes_ += block.capacity_bytes;
  ++under_way_;
  lock.unlock();
  std::exception_ptr error;
  bool closed = false;
  try {
    device_->protect(block.span(), Access::none);
    closed = true;
    device_->move(block.address, parked->address, block.capacity_bytes, parked->last_use);
  } catch (...) {
    error = std::current_exception();
  }
  if (error && closed) {
    // Part of it may have moved. The store has all of it, so all of it goes.
    give_up(block.span());
    give_up(parked->span());
  }
  if (closed) device_->watch(block.span());
  lock.lock();
  leaving_bytes_ -= block.capacity_bytes;
  if (error) {
    block.error = last_error_ = error;
    ++errors_;
  }
  if (!closed) {
    block.last_use = parked->last_use;
    frames_.put_cold(*parked);
    transition(block, State::clean);
  } else {
    transition(block, State::out);
    resident_bytes_ -= block.capacity_bytes;
    ++totals_.clean_evictions;
    record(EventKind::evict, &block, block.capacity_bytes, block.op);
    if (error) {
      budget_.release(block.capacity_bytes);
      frames_.put_cold(*parked);
    } else {
      frames_.put_warm(*parked);
      parked->sealed = true;
    }
  }
  if (block.freed) {
    const Slot copy = block.copy;
    block.copy = {};
    finish_free(block);
    release(lock, copy);
  } else if (!closed && block.holds == 0) {
    list(block);
  }
  --under_way_;
  changed();
}

// Where it cannot even begin the block stays, and whoever waits for room is told.
void Engine::try_evict(Lock& lock, Block& block) {
  try {
    evict(lock, block);
  } catch (...) {
    block.error = last_error_ = std::current_exception();
    ++errors_;
  }
}

// A copy's time begins when the work that it comes after has passed, which may take long.
void Engine::begin_copy(Job& job) {
  Lock lock(mutex_);
  const double now = now_seconds();
  link_time_.begin(job.direction, now);
  job.begun_seconds = now;
  job.both_seconds_before = link_time_.both_seconds(now);
}

// Returns the bytes that were copied while copies of the other direction were under way.
double Engine::end_copy(const Job& job, double now) {
  if (job.begun_seconds == 0) return 0;
  const double both_seconds = link_time_.both_seconds(now) - job.both_seconds_before;
  link_time_.end(job.direction, now);
  const double seconds = now - job.begun_seconds;
  return seconds > 0 ? static_cast<double>(job.bytes) * std::min(both_seconds / seconds, 1.0) : 0;
}

// Gives a copy that is of no use any more back to the store; none is fine.
void Engine::release(Lock& lock, Slot copy) {
  if (!copy) return;
  lock.unlock();
  store_->release(copy);
  lock.lock();
}

// Nothing is to be left behind the span. Where even that is refused, an error is reported already.
void Engine::give_up(Span span) {
  try {
    device_->decommit(span, {});
  } catch (const DeviceError&) {
  }
}

// --- in: out -> filling -> clean

// Swaps a block in that is out. The block may be freed, or be on its way by then, when it returns.
void Engine::swap_in_now(Lock& lock, Block& block, Wait wait, std::uint32_t op) {
  const std::uint64_t id = block.id;
  const SizeClass size = size_class(block.capacity_bytes);
  Block* staging = obtain(lock, size, Grant::Purpose::fill, wait, op);
  if (staging == nullptr) return;
  if (block.id == id && block.state == State::out) {
    try {
      start_filling(block, *staging, wait == Wait::no ? Priority::prefetch : Priority::demand_in);
    } catch (...) {
      staging->sealed = true;
      put_back(*staging);
      throw;
    }
    totals_.by_op[op].swap_in_bytes += copied_bytes(block);
  } else {
    staging->sealed = true;
    put_back(*staging);  // another thread was faster
  }
}

void Engine::start_filling(Block& block, Block& staging, Priority priority) {
  auto job = std::make_shared<Job>();
  job->direction = Direction::in;
  job->slot = block.copy;
  job->bytes = copied_bytes(block);
  job->prepare = [this, &block, &staging](Job& self) {
    return prepare_filling(block, staging, self);
  };
  // Where touches that nobody announces are seen, they have to be: the bytes are there or are not.
  if (!sees_touches_) {
    job->arriving = [this, &block](Job& self) {
      Lock lock(mutex_);
      block.arrival = self.arrival;
      changed();
    };
  }
  job->complete = [this, &block](Job& self) { complete_filling(block, self); };
  queue_->submit(job, priority);  // before anything is changed, as in start_cleaning
  transition(block, State::filling);
  block.staging = &staging;
  block.error = nullptr;
  block.job = std::move(job);
  ++under_way_;
}

// Piece by piece: the first bytes are copied while further memory is mapped.
std::size_t Engine::prepare_filling(Block& block, Block& staging, Job& job) {
  const std::size_t begin = job.ready_bytes;
  if (begin == 0) {
    Fences last_use;
    {
      Lock lock(mutex_);
      last_use = staging.last_use;
    }
    for (const Fence fence : last_use) device_->wait(fence);
    begin_copy(job);
  }
  const std::size_t step = device_->fill_step_bytes();
  const std::size_t end = ((block.address + begin) / step + 1) * step - block.address;
  const bool last = end >= job.bytes;
  const std::size_t bytes = (last ? block.capacity_bytes : end) - begin;
  const Address address =
      device_->begin_fill({staging.address + begin, bytes}, {block.address + begin, bytes});
  if (begin == 0) job.address = address;
  return last ? job.bytes : end;
}

void Engine::complete_filling(Block& block, Job& job) {
  Block& staging = *block.staging;
  std::exception_ptr error = job.error;
  if (!error) {
    try {
      // Read-only first: a write that the device does not see would be lost with the next eviction.
      if (device_->sees_writes()) device_->protect(staging.span(), Access::read);
      device_->finish_fill(staging.span(), block.span());
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (error) {
    give_up(block.span());
    device_->watch(block.span());
  }
  Slot unused;
  Lock lock(mutex_);
  const double now = now_seconds();
  const double duplex_bytes = end_copy(job, now);
  block.job.reset();
  block.staging = nullptr;
  block.arrival.clear();
  if (error) {
    staging.sealed = true;
    frames_.put_warm(staging);
    transition(block, State::out);
    ++totals_.transfer_errors;
    block.error = error;
  } else {
    frames_.put_cold(staging);
    if (device_->sees_writes()) {
      transition(block, State::clean);
    } else {
      unused = block.copy;
      block.copy = {};
      transition(block, State::resident);
    }
    resident_bytes_ += block.capacity_bytes;
    totals_.peak_resident_bytes = std::max(totals_.peak_resident_bytes, resident_bytes_);
    totals_.swap_in_bytes += job.bytes;
    totals_.swap_in_duplex_bytes += duplex_bytes;
    ++totals_.swap_in_count;
    record(EventKind::swap_in, &block, job.bytes, block.op, now - job.begun_seconds);
  }
  if (block.freed) {
    if (block.copy) unused = block.copy;
    block.copy = {};
    finish_free(block);
  } else if (!error && block.holds == 0) {
    list(block);
  }
  // It may be to leave: its op was over, on the host, before it came.
  if (!sees_touches_) leave_planned(lock);
  release(lock, unused);  // before drain may return
  --under_way_;
  changed();
}

// --- writes to blocks that have a copy

// clean -> resident: the copy is about to be out of date.
void Engine::make_writable(Lock& lock, Block& block) {
  Slot copy;
  if (block.state == State::clean) {
    copy = std::exchange(block.copy, {});
    transition(block, State::resident);
  }
  set_access(lock, block, Access::read_write, copy);
}

// Releases `unused` on the way.
void Engine::set_access(Lock& lock, Block& block, Access access, Slot unused) {
  block.busy = true;
  ++under_way_;
  lock.unlock();
  std::exception_ptr error;
  try {
    device_->protect(block.span(), access);
  } catch (...) {
    error = std::current_exception();
  }
  if (unused) store_->release(unused);
  lock.lock();
  block.busy = false;
  block.sealed = error != nullptr || access != Access::read_write;
  if (block.freed && block.job == nullptr) {
    unused = std::exchange(block.copy, {});
    finish_free(block);
    block.sealed = true;
    release(lock, unused);
  }
  --under_way_;
  changed();
  if (error) std::rethrow_exception(error);
}

// cleaning -> resident, once the chunks that are under way have ended. Writable at once where
// writes are seen; else when it returns: work that is queued is not to write while they are copied.
void Engine::cancel_cleaning(Lock& lock, Block& block) {
  const std::uint64_t id = block.id;
  const std::shared_ptr<Job> job = block.job;
  job->cancelled = true;
  forget_eviction(block);
  const bool at_once = device_->sees_writes();
  if (!at_once) queue_->raise(job, Priority::demand_in);
  while (at_once ? job->preparing : block.job == job) wait_for_change(lock);
  if (block.id != id || block.busy) return;
  if (block.job != nullptr && block.job != job) return;  // another copy by now: ask again
  make_writable(lock, block);
}

// The last of free, when nothing is under way for the block any more.
void Engine::finish_free(Block& block) {
  block.freed = false;
  block.error = nullptr;
  if (block.state == State::out) {
    frames_.put_cold(block);
    return;
  }
  resident_bytes_ -= block.capacity_bytes;
  block.sealed = block.sealed || block.state == State::clean;
  frames_.put_warm(block);
}

}  // namespace swapmem
