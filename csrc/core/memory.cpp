// Engine: room within the budget. Who waits for memory, and what is evicted for it.
#include <algorithm>
#include <cstdint>

#include "core/clock.h"
#include "core/engine.h"
#include "core/residency.h"

namespace swapmem {

namespace {

// How much memory is kept free or clean ahead of need, so that allocations find memory that can
// be taken at once.
constexpr std::size_t clean_ahead_share = 8;
constexpr std::size_t clean_ahead_most_bytes = std::size_t{256} << 20;

// One more for as long as it lives.
class Counted {
 public:
  explicit Counted(std::size_t& count) : count_(count) { ++count_; }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::size_t& count_;
};

}  // namespace

// Returns a block in the state `staging`, charged and with all its memory, or, with Wait::no,
// nullptr where that would have to wait. Any of the size, or this part.
Block* Engine::obtain(Lock& lock, SizeClass size, Grant::Purpose purpose, Wait wait,
                      std::uint32_t op, Block* part) {
  Grant grant;
  bool granted = frames_.grant(size, grant, part);
  if (!granted) {
    drain_magazine(lock);
    granted = frames_.grant(size, grant, part);
  }
  if (!granted) {
    if (wait == Wait::no) return nullptr;
    await_grant(lock, size, part, grant, op);
  }
  if (!grant.device_work()) {
    ++totals_.warm_hits;
    return grant.block;
  }
  ++under_way_;
  lock.unlock();
  try {
    frames_.apply(grant, purpose);
  } catch (...) {
    frames_.undo(grant);
    lock.lock();
    frames_.revoke(grant);
    --under_way_;
    changed();
    throw;
  }
  lock.lock();
  frames_.settle(grant);
  --under_way_;
  changed();
  clean_ahead();
  return grant.block;
}

// Returns the first of parts that are all in the state `staging`, charged and with all their
// memory.
Block* Engine::obtain_parts(Lock& lock, const Parts& parts, std::uint32_t op) {
  Block* const first = frames_.take_parts(parts);
  for (Block* part = first; part != nullptr; part = part->next_part) {
    try {
      obtain(lock, size_class(part->capacity_bytes), Grant::Purpose::array, Wait::yes, op, part);
    } catch (...) {
      put_back(*first, part);
      throw;
    }
  }
  return first;
}

// A block that was obtained, or parts of which those before `end` were, and that nobody needs.
void Engine::put_back(Block& first, const Block* end) {
  for (Block* part = &first; part != end; part = part->next_part) frames_.put_warm(*part);
  if (first.is_part()) frames_.put_parts(first);
  changed();
}

// Makes room, and waits for it.
void Engine::await_grant(Lock& lock, SizeClass size, Block* part, Grant& grant, std::uint32_t op) {
  const Counted waits(waiting_for_room_);
  const double waited_since = now_seconds();
  const std::uint64_t errors_before = errors_;
  do {
    if (errors_ != errors_before) std::rethrow_exception(last_error_);
    if (!make_room(lock, size.bytes)) {
      throw_out_of_memory(part == nullptr ? size.bytes : array_bytes(*part->first_part),
                          kept_bytes(), op);
    }
    drain_magazine(lock);
  } while (!frames_.grant(size, grant, part));
  note_stall(now_seconds() - waited_since, nullptr, size.bytes, op);
}

void Engine::note_stall(double seconds, const Block* block, std::size_t bytes, std::uint32_t op) {
  totals_.stall_seconds += seconds;
  totals_.by_op[op].stall_seconds += seconds;
  record(EventKind::stall, block, bytes, op, seconds);
  if (iterates(thread_ops())) {
    recorder_.add({.seconds = seconds, .bytes = bytes, .op = op, .kind = RecordKind::stall});
  }
}

// The plan left too little room: this block has to leave though it should stay.
void Engine::note_unplanned(const Block& block) {
  ++totals_.unplanned_evictions;
  record(EventKind::unplanned, &block, block.capacity_bytes, block.op);
}

// A block that nobody holds joins those that may be evicted.
void Engine::list(Block& block) {
  if (may_evict(block)) policy_->add(block);
}

// What cannot be evicted.
std::size_t Engine::kept_bytes() const {
  if (sees_touches_) return held_bytes_;
  std::size_t kept = 0;
  for (const Block& block : frames_.blocks()) {
    const bool kept_here = block.holds > 0 || (block.accessible() && !may_evict(block));
    if (kept_here && !block.freed) kept += block.capacity_bytes;
  }
  return kept;
}

// One step towards room for `need_bytes`: evicts a block, or sees to it that enough are on their
// way out and waits for a change. False if nothing can be evicted and nothing is under way.
bool Engine::make_room(Lock& lock, std::size_t need_bytes) {
  std::size_t coming = budget_.room_bytes() + frames_.warm_bytes() + leaving_bytes_;
  for (Block* block = policy_->first(); block != nullptr && coming < need_bytes;) {
    Block* next = policy_->next(*block);
    const bool leaving = block->evict_next || (block->job && block->job->cancelled);
    if (plan_.follows() && !leaving && !block->busy) note_unplanned(*block);
    if (block->state == State::clean && !block->busy) {
      evict(lock, *block);
      return true;
    }
    if (block->state == State::resident && !block->busy) {
      start_cleaning(*block, Priority::demand_out, true);
      coming += block->capacity_bytes;
    } else if (block->state == State::cleaning && !block->evict_next && !block->job->cancelled) {
      request_eviction(*block);
      coming += block->capacity_bytes;
    }
    block = next;
  }
  if (under_way_ == 0) return false;
  wait_for_change(lock);
  return true;
}

// Starts copies of the blocks that will be evicted next, so that their memory can be taken the
// moment it is needed. They stay resident until then.
void Engine::clean_ahead() {
  if (plan_.follows()) return;  // it says what is to be copied, and when
  const std::size_t target =
      std::min(budget_.limit_bytes() / clean_ahead_share, clean_ahead_most_bytes);
  std::size_t ready = budget_.room_bytes() + frames_.warm_bytes() + leaving_bytes_;
  for (Block* block = policy_->first(); block != nullptr && ready < target;
       block = policy_->next(*block)) {
    if (block->state == State::resident && !block->busy && !block->error &&
        !try_cleaning(*block, Priority::background, false)) {
      return;
    }
    ready += block->capacity_bytes;
  }
}

// `used_bytes` is what cannot be evicted.
void Engine::throw_out_of_memory(std::size_t requested_bytes, std::size_t used_bytes,
                                 std::uint32_t op) const {
  const std::size_t needed_bytes =
      requested_bytes + std::min(used_bytes, SIZE_MAX - requested_bytes);
  const std::string& op_name = totals_.by_op[op].name;
  std::string what = "out of device memory";
  if (!op_name.empty()) what += " in " + op_name;
  what += ": " + std::to_string(requested_bytes) + " bytes asked for, " +
          std::to_string(used_bytes) + " bytes needed at the same time or pinned, budget " +
          std::to_string(budget_.limit_bytes()) + " bytes; device_memory of at least " +
          std::to_string(needed_bytes) + " bytes is needed here";
  throw OutOfMemory(what, requested_bytes, used_bytes, budget_.limit_bytes(), needed_bytes,
                    op_name);
}

}  // namespace swapmem
