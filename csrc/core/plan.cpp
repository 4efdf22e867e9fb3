#include "core/plan.h"

#include <algorithm>
#include <utility>

namespace swapmem {

void PlanRun::set(std::shared_ptr<const Plan> plan, std::vector<Bound> bound) {
  decltype(made_) made;
  for (std::uint32_t i = 0; i < plan->blocks.size(); ++i) {
    const PlanBlock& block = plan->blocks[i];
    if (block.slot != no_plan_block) made.emplace(key(block.slot, block.ordinal), i);
  }
  plan_ = std::move(plan);
  bound_ = std::move(bound);
  made_ = std::move(made);
  follows_ = false;
}

void PlanRun::miss() {
  follows_ = false;
  ++misses_;
}

void PlanRun::end_iteration() {
  if (follows_ && next_op_ != plan_->steps.size()) miss();
  follows_ = false;
}

void PlanRun::begin_iteration() {
  follows_ = false;
  next_op_ = 0;
  slot_ = ordinal_ = 0;
  need_bytes_ = 0;
  if (plan_ == nullptr) return;
  std::vector<Bound> bound(bound_.size());
  for (std::uint32_t i = 0; i < bound.size(); ++i) {
    const PlanBlock& block = plan_->blocks[i];
    if (block.carried_from != no_plan_block) {
      bound[i] = bound_[block.carried_from];
    } else if (block.slot == no_plan_block) {
      bound[i] = bound_[i];
    }
  }
  bound_ = std::move(bound);
  follows_ = true;
}

void PlanRun::begin_op(std::uint32_t op) {
  if (!follows_) return;
  if (next_op_ == plan_->steps.size() || plan_->steps[next_op_].op != op) {
    miss();
    return;
  }
  need_bytes_ = plan_->steps[next_op_].need_bytes;
  ++next_op_;
  ++slot_;
  ordinal_ = 0;
}

void PlanRun::end_op() {
  ++slot_;
  ordinal_ = 0;
}

void PlanRun::allocated(Block& block) {
  if (!follows_) return;
  need_bytes_ -= std::min(need_bytes_, block.capacity_bytes);
  const auto found = made_.find(key(slot_, ordinal_++));
  if (found == made_.end()) return;
  if (plan_->blocks[found->second].capacity_bytes == block.capacity_bytes) {
    bound_[found->second] = {&block, block.id};
  } else {
    miss();  // a batch of another size
  }
}

}  // namespace swapmem
