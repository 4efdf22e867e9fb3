// Engine: touches that nobody announced, and what holds over a fork.
#include <algorithm>

#include "core/clock.h"
#include "core/engine.h"

namespace swapmem {

namespace {

constexpr int faults_of_a_circle = 256;
// The share of its time that such a thread computes: 1 % was seen, against 8 % in a loop
// that adds one to its arrays.
constexpr double most_busy_of_idle = 0.03;

}  // namespace

// A call whose operands do not fit the budget together faults at the same few blocks all the time,
// each swap-in evicting what the next step needs, and gets a few elements further with each. What
// tells it from a loop over a few arrays is that the thread does nothing between its faults.
bool Engine::is_going_in_circles(const Block& block, int thread) {
  const double cpu_seconds = thread_cpu_seconds(thread);
  const bool again =
      thread == circle_.thread &&
      std::find(circle_.blocks.begin(), circle_.blocks.end(), block.id) != circle_.blocks.end();
  circle_.blocks[circle_.next++ % circle_.blocks.size()] = block.id;
  if (again && ++circle_.faults < faults_of_a_circle) return false;
  const double now = now_seconds();
  const bool idle =
      cpu_seconds - circle_.begun_cpu_seconds < most_busy_of_idle * (now - circle_.begun_seconds);
  if (again && idle) return true;  // and so again when the signal handler asks why
  circle_.thread = thread;
  circle_.faults = 0;
  circle_.begun_cpu_seconds = cpu_seconds;
  circle_.begun_seconds = now;
  return false;
}

bool Engine::fault(Address address, int thread, bool write, std::string& why) {
  Lock lock(mutex_);
  Block* block = find_live(address);
  if (block == nullptr) {
    why = "the address belongs to no live array";
    return false;
  }
  const double begun = now_seconds();
  const std::uint64_t id = block->id;
  std::uint32_t op = 0;
  for (const auto& [_, ops] : threads_) {
    if (ops->thread == thread && !ops->open.empty()) op = ops->open.back().name;
  }
  bool swapped = false;
  bool tried = false;
  std::size_t recorded = 0;  // its place in faults_
  try {
    while (block->id == id) {
      if (block->accessible()) {
        if (block->state == State::resident && !block->busy) {
          make_writable(lock, *block);
        } else if (write && block->busy) {
          wait_for_change(lock);
          continue;
        } else if (write && block->state == State::clean) {
          make_writable(lock, *block);
        } else if (write && !block->job->cancelled) {
          cancel_cleaning(lock, *block);
        } else if (!write && !block->busy && block->state == State::clean) {
          set_access(lock, *block, Access::read, {});  // closed over a fork, for instance
        }
        break;
      }
      if (!swapped) {
        if (is_going_in_circles(*block, thread)) {
          why = "arrays that are touched together do not fit the budget of " +
                std::to_string(budget_.limit_bytes()) + " bytes, one of them has " +
                std::to_string(block->bytes);
          return false;
        }
        // Before the bytes are there: whoever has touched them may already ask for it.
        recorded = faults_.size();
        if (recorded < most_fault_records) {
          faults_.push_back({begun, 0, id, block->bytes, op, address});
        }
        ++totals_.faults;
        ++totals_.by_op[op].faults;
        swapped = true;
      }
      if (block->state == State::out) {
        if (block->error && tried) std::rethrow_exception(block->error);
        tried = true;
        swap_in_now(lock, *block, Wait::yes, op);
      } else {
        if (block->state == State::filling) queue_->raise(block->job, Priority::demand_in);
        wait_for_change(lock);
      }
    }
  } catch (const std::exception& error) {
    why = error.what();
    return false;
  }
  if (swapped) {
    const double seconds = now_seconds() - begun;
    totals_.fault_seconds += seconds;
    if (recorded < most_fault_records) {
      faults_[recorded].time_seconds = begun + seconds;
      faults_[recorded].seconds = seconds;
    }
    record(EventKind::fault, block, block->bytes, op, seconds);
    note(RecordKind::fault, *block);
  }
  return true;
}

// A watch does not reach the child, where the memory would then read as zeros: blocks that are out
// are closed over the fork.
void Engine::lock_for_fork() {
  Lock lock(mutex_);
  if (device_->watches()) {
    while (std::any_of(frames_.blocks().begin(), frames_.blocks().end(),
                       [](const Block& block) { return block.state == State::evicting; })) {
      wait_for_change(lock);
    }
    for (const Block& block : frames_.blocks()) {
      if (block.state == State::out || block.state == State::filling) {
        device_->protect(block.span(), Access::none);
      }
    }
  }
  lock.release();  // kept over the fork
}

void Engine::unlock_after_fork(bool in_child) {
  Lock lock(mutex_, std::adopt_lock);
  if (in_child || !device_->watches()) return;
  for (const Block& block : frames_.blocks()) {
    if (block.state == State::out) device_->watch(block.span());
  }
}

bool Engine::fault_in_child(Address address) {
  const Block* block = find_live(address);
  if (block == nullptr || !block->accessible()) return false;
  device_->protect(block->span(), Access::read_write);
  return true;
}

}  // namespace swapmem
