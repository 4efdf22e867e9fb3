// Engine: statistics, trace and the check of its invariants.
#include <stdexcept>

#include "core/clock.h"
#include "core/engine.h"

namespace swapmem {

Stats Engine::stats() {
  Lock lock(mutex_);
  drain_magazine(lock);
  Stats stats = totals_;
  const double now = now_seconds();
  stats.budget_bytes = budget_.limit_bytes();
  stats.charged_bytes = budget_.used_bytes();
  stats.peak_charged_bytes = budget_.peak_bytes();
  stats.live_bytes = live_bytes_;
  stats.resident_bytes = resident_bytes_;
  stats.cached_bytes = frames_.warm_bytes();
  stats.held_bytes = held_bytes_;
  stats.plan_misses = plan_.misses();
  stats.swap_out_busy_seconds = link_time_.out_seconds(now);
  stats.swap_in_busy_seconds = link_time_.in_seconds(now);
  stats.duplex_busy_seconds = link_time_.both_seconds(now);
  lock.unlock();
  stats.store_bytes = store_->used_bytes();
  stats.peak_store_bytes = store_->peak_bytes();
  stats.store_budget_bytes = store_->budget_bytes();
  return stats;
}

std::vector<Event> Engine::trace() const {
  Lock lock(mutex_);
  return trace_.events();
}

std::vector<FaultRecord> Engine::faults() const {
  Lock lock(mutex_);
  return faults_;
}

std::vector<std::string> Engine::op_names() const {
  Lock lock(mutex_);
  std::vector<std::string> names;
  for (const OpStats& op : totals_.by_op) names.push_back(op.name);
  return names;
}

Record Engine::last_iteration() const {
  Record record;
  {
    Lock lock(mutex_);
    record = recorder_.last();
  }
  put_on_clock_of(*device_, record);
  return record;
}

std::optional<BlockInfo> Engine::block(Address address) const {
  Lock lock(mutex_);
  const Block* block = find_array(address);
  if (block == nullptr) return std::nullopt;
  BlockInfo info{block->id, block->address, 0, block->state, block->holds, block->pins};
  for (; block != nullptr; block = block->next_part) {
    info.bytes += block->bytes;
    // Of parts one that is not there says whether the array is.
    if (accessible(info.state)) info.state = block->state;
  }
  return info;
}

namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(std::string("invariant broken: ") + what);
}

}  // namespace

void Engine::check_invariants() const {
  Lock lock(mutex_);
  std::size_t charged = 0;
  std::size_t held = 0;
  std::size_t live = 0;
  std::size_t resident = 0;
  std::size_t warm = 0;
  std::size_t leaving = 0;
  std::size_t listed = 0;
  for (const Block& block : frames_.blocks()) {
    const State s = block.state;
    charged += charged_bytes(block);
    if (s == State::warm) warm += block.warm_bytes;
    if (block.holds > 0) held += block.capacity_bytes;
    if (allocated(s) && !block.freed) live += block.capacity_bytes;
    if (accessible(s) || s == State::evicting) resident += block.capacity_bytes;
    if (s == State::evicting || block.evict_next) leaving += block.capacity_bytes;
    if (block.listed) ++listed;
    require(block.pins <= block.holds, "pins <= holds");
    require(!block.evict_next || s == State::cleaning, "evict_next => cleaning");
    require((block.id != 0) == (allocated(s) && !block.freed), "id <=> allocated");
    require(!block.freed || allocated(s), "freed => a transfer or device call is under way");
    require((block.job != nullptr) == (s == State::cleaning || s == State::filling),
            "job <=> cleaning or filling");
    require((block.staging != nullptr) == (s == State::filling), "staging <=> filling");
    require(block.arrival.empty() || s == State::filling, "arrival => filling");
    require(static_cast<bool>(block.copy) == (s == State::clean || s == State::evicting ||
                                              s == State::out || s == State::filling),
            "copy <=> clean, evicting, out or filling");
    require(block.listed == (accessible(s) && block.holds == 0 && !block.freed && may_evict(block)),
            "listed <=> accessible, not held, not freed, touches seen or announced");
    require(block.next_part == nullptr || (block.next_part->first_part == block.first_part &&
                                           block.next_part->address == block.span().end()),
            "parts lie side by side");
    require(frames_.find(block.address) == &block &&
                frames_.find(block.address + block.capacity_bytes - 1) == &block,
            "every address of a block finds it");
  }
  std::size_t in_policy = 0;
  for (const Block* b = policy_->first(); b != nullptr; b = policy_->next(*b)) ++in_policy;
  require(listed == in_policy, "listed blocks == blocks in the policy");
  require(charged + frames_.in_flight_bytes() == budget_.used_bytes(),
          "sum of charged bytes == used bytes");
  require(budget_.used_bytes() <= budget_.limit_bytes(), "used bytes <= budget");
  require(held == held_bytes_, "sum of held capacity == held bytes");
  require(live == live_bytes_, "sum of live capacity == live bytes");
  require(resident == resident_bytes_, "sum of resident capacity == resident bytes");
  require(leaving == leaving_bytes_, "sum of leaving capacity == leaving bytes");
  require(warm >= frames_.warm_bytes(), "warm blocks hold at least what the lists count");
  require(under_way_ > 0 || warm == frames_.warm_bytes(), "warm bytes match when nothing moves");
}

}  // namespace swapmem
