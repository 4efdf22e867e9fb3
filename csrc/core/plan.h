// A plan for iterations that run alike, and where the present one is in it.
//
// Time in an iteration is counted in slots: slot 2 i + 1 is op i while it runs, slot 2 i the time
// before it, slot 2 n what follows the last op. A block that is made in the iteration is known by
// the slot of its allocation and its number among the allocations of that slot.
//
// The plan does nothing itself: it tells the engine which blocks leave and which are fetched. As
// soon as an op is not the one that the plan expects, the plan is left until the next iteration.
//
// Threads: the engine's lock protects a PlanRun; a Plan does not change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/block.h"

namespace swapmem {

constexpr std::uint32_t no_plan_block = std::numeric_limits<std::uint32_t>::max();

struct PlanBlock {
  std::size_t capacity_bytes = 0;
  // The block as it stands when the plan is given; 0 if it does not live then.
  Address address = 0;
  std::uint64_t id = 0;
  // One that was made in the iteration before: which block of the plan it was there.
  std::uint32_t carried_from = no_plan_block;
  // One that is made in the iteration: when. Else the slot is no_plan_block.
  std::uint32_t slot = no_plan_block;
  std::uint32_t ordinal = 0;
};

struct PlanStep {
  std::uint32_t op = 0;              // index of its name
  std::vector<std::uint32_t> fetch;  // blocks to be asked for when it begins
  std::vector<std::uint32_t> leave;  // blocks to leave when it has ended
  // The most that it, and what follows up to the next op, allocates beyond what it frees.
  std::size_t need_bytes = 0;
};

struct Plan {
  std::vector<PlanBlock> blocks;
  std::vector<std::uint32_t> leave;  // at the iteration's begin
  std::vector<PlanStep> steps;
};

class PlanRun {
 public:
  struct Bound {
    Block* block = nullptr;
    std::uint64_t id = 0;
    bool alive() const { return block != nullptr && id != 0 && block->id == id; }
  };

  // `bound` says which block each of the plan's is at present.
  void set(std::shared_ptr<const Plan> plan, std::vector<Bound> bound);

  bool follows() const { return follows_; }
  void begin_iteration();  // which follows the plan, if there is one
  void end_iteration();
  // If the op is not the one that is due the plan is left.
  void begin_op(std::uint32_t op);
  void allocated(Block& block);
  void end_op();
  // The iteration cannot be followed: the plan is left until the next.
  void miss();
  // How often an iteration was not what the plan expects: another op or size, or a short one.
  std::uint64_t misses() const { return misses_; }

  // The numbers in the plan of what is to be fetched at the begin of the op that runs, and of what
  // is to leave at the end of the one that ended.
  std::span<const std::uint32_t> fetch() const { return plan_->steps[next_op_ - 1].fetch; }
  std::span<const std::uint32_t> leave() const {
    return next_op_ == 0 ? plan_->leave : plan_->steps[next_op_ - 1].leave;
  }
  const Bound& bound(std::uint32_t number) const { return bound_[number]; }
  // What will still be allocated before the next op begins; fetches have to leave room for it.
  std::size_t need_bytes() const { return follows_ ? need_bytes_ : 0; }

 private:
  static std::uint64_t key(std::uint64_t slot, std::uint64_t ordinal) {
    return slot << 32 | ordinal;
  }

  std::shared_ptr<const Plan> plan_;
  std::unordered_map<std::uint64_t, std::uint32_t> made_;  // by slot and ordinal
  std::vector<Bound> bound_;
  bool follows_ = false;
  std::uint64_t misses_ = 0;
  std::size_t next_op_ = 0;
  std::uint32_t slot_ = 0;
  std::uint32_t ordinal_ = 0;
  std::size_t need_bytes_ = 0;
};

}  // namespace swapmem
