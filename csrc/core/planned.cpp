// Engine: what a plan asks for. Blocks leave after the op that needs them last; they are fetched,
// in order, as soon as the plan says so and there is room.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "core/clock.h"
#include "core/engine.h"
#include "core/residency.h"

namespace swapmem {

void Engine::set_plan(Plan plan, std::span<const std::string> ops) {
  Lock lock(mutex_);
  if (ops.size() != plan.steps.size()) throw std::invalid_argument("a name for each step");
  for (std::size_t i = 0; i < ops.size(); ++i) plan.steps[i].op = op_name(ops[i]);
  std::vector<PlanRun::Bound> bound;
  for (const PlanBlock& wanted : plan.blocks) {
    Block* block = wanted.id == 0 ? nullptr : find_live(wanted.address);
    const bool is_it = block != nullptr && block->id == wanted.id;
    bound.push_back(is_it ? PlanRun::Bound{block, block->id} : PlanRun::Bound{});
  }
  to_leave_.clear();
  to_fetch_.clear();
  plan_.set(std::make_shared<const Plan>(std::move(plan)), std::move(bound));
}

void Engine::begin_iteration() {
  Lock lock(mutex_);
  drain_magazine(lock);
  ++totals_.iterations;
  record(EventKind::iteration, nullptr, 0, 0);
  plan_.end_iteration();
  start_recording(thread_ops());
}

void Engine::start_recording(const ThreadOps& ops) {
  iterating_ = &ops;
  recorder_.begin_iteration(now_seconds());
  recording_ = recorder_.active();
  for (const Block& block : frames_.blocks()) {
    if (allocated(block.state) && !block.freed) note(RecordKind::exists, block);
  }
}

void Engine::note(RecordKind kind, const Block& block) {
  recorder_.add({.seconds = now_seconds(),
                 .block = block.id,
                 .address = block.address,
                 .bytes = block.capacity_bytes,
                 .op = block.op,
                 .kind = kind,
                 .may_leave = may_evict(block) && block.pins == 0});
}

void Engine::follow_plan() {
  Lock lock(mutex_);
  recorder_.begin_again(now_seconds());
  plan_.begin_iteration();
  if (!plan_.follows()) return;
  ++totals_.planned_iterations;
  ask_for(plan_.leave(), to_leave_);
  leave_planned(lock);
}

// Where there is no memory to remember it by, the plan is left for this iteration.
void Engine::ask_for(std::span<const std::uint32_t> numbers, Bounds& list) {
  try {
    for (const std::uint32_t number : numbers) list.push_back(plan_.bound(number));
  } catch (const std::bad_alloc&) {
    plan_.miss();
  }
}

bool Engine::follows_plan() {
  Lock lock(mutex_);
  return plan_.follows() && iterates(thread_ops());
}

// Starts to swap out what is to leave. A block that is held still, or that nobody has offered yet,
// leaves at a later op.
void Engine::leave_planned(Lock& lock) {
  if (!plan_.follows()) to_leave_.clear();
  Bounds later;
  while (!to_leave_.empty()) {
    Bounds taken;
    taken.splice(taken.begin(), to_leave_, to_leave_.begin());
    const PlanRun::Bound& bound = taken.front();
    if (!bound.alive()) continue;
    Block& block = *bound.block;
    const bool comes = !block.arrival.empty();  // for an op that has ended, on the host
    if (!block.ready() || block.evict_next) continue;
    if (block.holds > 0 || block.busy || comes || !may_evict(block)) {
      later.splice(later.end(), taken);
    } else if (block.state == State::resident) {
      if (!block.error && !try_cleaning(block, Priority::demand_out, true)) {
        later.splice(later.end(), taken);
      }
    } else if (block.state == State::clean) {
      try_evict(lock, block);
    } else if (!block.job->cancelled) {
      request_eviction(block);
    }
  }
  to_leave_.splice(to_leave_.begin(), later);
}

// Starts the swap-ins that were asked for, in order, while there is room for them beside what the
// op that runs will allocate.
void Engine::fetch_planned(Lock& lock) {
  if (!plan_.follows()) to_fetch_.clear();
  if (fetching_) return;
  fetching_ = true;
  while (!to_fetch_.empty() && waiting_for_room_ == 0) {
    Bounds taken;
    taken.splice(taken.begin(), to_fetch_, to_fetch_.begin());
    if (!fetch_now(lock, taken.front())) {
      to_fetch_.splice(to_fetch_.begin(), taken);
      break;
    }
  }
  fetching_ = false;
}

// False if it has to wait: for room, or until the block has left.
bool Engine::fetch_now(Lock& lock, const PlanRun::Bound& bound) {
  if (!bound.alive()) return true;
  Block& block = *bound.block;
  forget_eviction(block);
  std::erase_if(to_leave_, [&](const PlanRun::Bound& other) { return other.block == &block; });
  if (block.state == State::evicting) return false;
  if (block.state != State::out) return true;
  const std::size_t room = budget_.room_bytes() + frames_.warm_bytes();
  if (room < block.capacity_bytes + plan_.need_bytes()) return false;
  try {
    swap_in_now(lock, block, Wait::no, block.op);
  } catch (const std::exception&) {
    return true;  // the op that needs it asks again, and is told
  }
  return !bound.alive() || block.state != State::out;
}

}  // namespace swapmem
