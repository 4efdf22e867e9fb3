// Engine: ops, and what they hold.
#include <unistd.h>

#include <algorithm>

#include "core/clock.h"
#include "core/engine.h"
#include "core/residency.h"

namespace swapmem {

// --- holds

void Engine::hold(Block& block) {
  if (block.holds++ > 0) return;
  held_bytes_ += block.capacity_bytes;
  block.retired = false;
  if (block.listed) policy_->remove(block);
  forget_eviction(block);
}

void Engine::unhold(Block& block) {
  if (--block.holds > 0) return;
  held_bytes_ -= block.capacity_bytes;
  if (block.accessible()) list(block);
  changed();
}

// Sees to it that a block is accessible or on its way. With Wait::no it may stay out.
void Engine::use(Lock& lock, Block& block, Wait wait, std::uint32_t op) {
  const std::uint64_t id = block.id;
  while (block.id == id) {
    switch (block.state) {
      case State::clean:
        // Where writes go unseen the copy is out of date from here on.
        if (!device_->sees_writes()) make_writable(lock, block);
        return;
      case State::cleaning:
        forget_eviction(block);
        if (!device_->sees_writes()) cancel_cleaning(lock, block);
        return;
      case State::evicting:
        wait_for_change(lock);
        break;
      case State::out:
        swap_in_now(lock, block, wait, op);
        return;
      case State::filling:
        if (wait != Wait::no) queue_->raise(block.job, Priority::demand_in);
        return;
      default:
        return;
    }
  }
}

void Engine::await(Lock& lock, std::uint64_t id, Block& block, std::uint32_t op,
                   bool (Block::*there)() const) {
  bool tried = false;
  while (block.id == id && !(block.*there)()) {
    if (block.state == State::out) {
      if (block.error && tried) std::rethrow_exception(block.error);
      tried = true;
      use(lock, block, Wait::yes, op);
    } else {
      wait_for_change(lock);
    }
  }
}

// --- ops

// What the op is to do comes after the bytes of its blocks that are on their way; the host goes on.
// The wait is one of the device, on whose clock it is recorded.
void Engine::order_after_arrivals(Lock& lock, const ThreadOps& ops, const OpenOp& open) {
  Fences arrivals;
  for (const auto& [block, id] : open.held) {
    if (block->id == id) arrivals.add(block->arrival);
  }
  if (arrivals.empty()) return;
  lock.unlock();
  const Stamp asked = device_->stamp();
  std::exception_ptr error;
  try {
    for (const Fence fence : arrivals) device_->order(fence);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  if (error) std::rethrow_exception(error);
  if (!iterates(ops) || !ops.open.empty() || asked == nullptr) return;
  recorder_.add({.seconds = 0, .op = open.name, .kind = RecordKind::stall}, asked);
}

Engine::ThreadOps& Engine::thread_ops() {
  thread_local std::uint64_t cached_serial = 0;
  thread_local ThreadOps* cached = nullptr;
  if (cached_serial != serial_) {
    const auto id = std::this_thread::get_id();
    auto known = threads_.find(id);
    if (known == threads_.end()) known = threads_.emplace(id, std::make_unique<ThreadOps>()).first;
    cached = known->second.get();
    cached->thread = static_cast<int>(gettid());
    cached_serial = serial_;
  }
  return *cached;
}

std::uint32_t Engine::op_name(const std::string& op) {
  if (const auto known = op_index_.find(op); known != op_index_.end()) return known->second;
  totals_.by_op.push_back({.name = op});
  try {
    return op_index_.emplace(op, static_cast<std::uint32_t>(totals_.by_op.size() - 1))
        .first->second;
  } catch (...) {
    totals_.by_op.pop_back();
    throw;
  }
}

std::size_t Engine::begin_op(const std::string& op, std::span<const Address> touched) {
  Lock lock(mutex_);
  circle_.thread = 0;
  drain_magazine(lock);  // what an op peaks at is what is alive
  const double begun = now_seconds();
  ThreadOps& ops = thread_ops();
  OpenOp open{op_name(op), begun, 0, {}};
  const std::size_t depth = ops.open.size();
  ops.open.reserve(depth + 1);
  if (iterating_ == nullptr) start_recording(ops);
  if (iterates(ops) && ops.open.empty()) {
    recorder_.add({.seconds = begun, .op = open.name, .kind = RecordKind::begin_op});
    plan_.begin_op(open.name);
  }
  try {
    std::size_t touched_bytes = 0;
    for (const Address address : touched) {
      for (Block* block = find_array(address); block != nullptr; block = block->next_part) {
        const std::pair<Block*, std::uint64_t> item(block, block->id);
        if (std::find(open.held.begin(), open.held.end(), item) != open.held.end()) continue;
        open.held.push_back(item);
        touched_bytes += block->capacity_bytes;
        hold(*block);
        if (iterates(ops)) note(RecordKind::touch, *block);
      }
    }
    open.peak_bytes = held_bytes_;
    record(EventKind::begin_op, nullptr, touched_bytes, open.name);
    if (held_bytes_ > budget_.limit_bytes()) {
      throw_out_of_memory(touched_bytes, held_bytes_ - touched_bytes, open.name);
    }
    const Block* awaited = nullptr;
    for (const auto& [block, id] : open.held) {
      if (block->id == id) use(lock, *block, Wait::yes, open.name);
      if (!block->ready()) awaited = block;
    }
    if (awaited != nullptr) {
      const double waited_since = now_seconds();
      for (const auto& [block, id] : open.held) await(lock, id, *block, open.name, &Block::ready);
      note_stall(now_seconds() - waited_since, awaited, touched_bytes, open.name);
    }
    order_after_arrivals(lock, ops, open);
  } catch (...) {
    for (const auto& [block, id] : open.held) {
      if (block->id == id) unhold(*block);
    }
    throw;
  }
  ops.open.push_back(std::move(open));
  if (depth > 0 || !iterates(ops)) return depth;
  if (plan_.follows()) {
    ask_for(plan_.fetch(), to_fetch_);
    leave_planned(lock);
    fetch_planned(lock);
  }
  lock.unlock();
  const Stamp stamp = device_->stamp();
  lock.lock();
  if (stamp != nullptr) recorder_.stamp_begin(stamp, now_seconds());
  return depth;
}

void Engine::close_op(Lock& lock, ThreadOps& ops, std::span<const Address> retire, Fence last_use,
                      const Stamp& ended) {
  // What may fail for want of memory comes first.
  if (ops.open.size() > 1) {
    reserve_holds(ops.open[ops.open.size() - 2], ops.open.back().held.size());
  }
  for (const auto& [block, id] : ops.open.back().held) {
    if (block->id == id) block->last_use.add(last_use);
  }
  OpenOp open = std::move(ops.open.back());
  ops.open.pop_back();
  for (const Address address : retire) {
    for (Block* block = find_array(address); block != nullptr; block = block->next_part) {
      block->retired = true;
      if (!block->listed) continue;  // until it is held no more
      policy_->remove(*block);
      policy_->add(*block);
    }
  }
  for (const auto& item : open.held) {
    auto& [block, id] = item;
    if (block->id != id) continue;
    if (ops.open.empty()) {
      unhold(*block);
    } else {
      ops.open.back().held.push_back(item);
    }
  }
  OpStats& stats = totals_.by_op[open.name];
  const double seconds = now_seconds() - open.begun_seconds;
  ++stats.calls;
  stats.seconds += seconds;
  stats.peak_bytes = std::max(stats.peak_bytes, open.peak_bytes);
  if (open.peak_bytes > totals_.largest_op_bytes) {
    totals_.largest_op_bytes = open.peak_bytes;
    totals_.largest_op = stats.name;
  }
  record(EventKind::end_op, nullptr, open.peak_bytes, open.name, seconds);
  if (iterates(ops) && ops.open.empty()) {
    const double now = now_seconds();
    recorder_.add({.seconds = now, .op = open.name, .kind = RecordKind::end_op}, ended, now);
    if (plan_.follows()) {
      plan_.end_op();
      ask_for(plan_.leave(), to_leave_);
      leave_planned(lock);
      fetch_planned(lock);
    }
  }
  if (policy_->keeps_after_op()) {
    clean_ahead();
  } else {
    evict_unheld(lock);
  }
}

void Engine::end_op(std::span<const Address> retire) {
  const Fence last_use = device_->fence();
  const Stamp ended = device_->stamp();
  Lock lock(mutex_);
  ThreadOps& ops = thread_ops();
  if (ops.open.empty()) throw InvalidBlock("end_op without an open op in this thread");
  close_op(lock, ops, retire, last_use, ended);
}

void Engine::abort_ops(std::size_t depth) {
  const Fence last_use = device_->fence();
  Lock lock(mutex_);
  ThreadOps& ops = thread_ops();
  while (ops.open.size() > depth) close_op(lock, ops, {}, last_use, nullptr);
}

std::size_t Engine::op_depth() {
  Lock lock(mutex_);
  return thread_ops().open.size();
}

void Engine::evict_unheld(Lock& lock) {
  const std::uint64_t errors_before = errors_;
  while (true) {
    Block* clean = nullptr;
    for (Block* block = policy_->first(); block != nullptr; block = policy_->next(*block)) {
      if (block->busy) continue;
      if (block->state == State::resident) {
        start_cleaning(*block, Priority::demand_out, true);
      } else if (block->state == State::clean) {
        clean = block;
      } else if (!block->evict_next && !block->job->cancelled) {
        request_eviction(*block);
      }
    }
    if (errors_ != errors_before) std::rethrow_exception(last_error_);
    if (clean != nullptr) {
      evict(lock, *clean);
    } else if ((policy_->first() != nullptr || leaving_bytes_ > 0) && under_way_ > 0) {
      wait_for_change(lock);
    } else {
      return;
    }
  }
}

}  // namespace swapmem
