// Blocks in an order, by links of their own: nothing has to be allocated, so nothing can fail. A
// block is in one list at most; constant time per call.
#pragma once

#include "core/block.h"

namespace swapmem {

class BlockList {
 public:
  Block* first() const { return first_; }
  Block* last() const { return last_; }
  bool empty() const { return first_ == nullptr; }
  // Of blocks that are in no other list.
  bool contains(const Block& block) const { return block.before != nullptr || first_ == &block; }

  void push_front(Block& block) {
    block.after = first_;
    (first_ != nullptr ? first_->before : last_) = &block;
    first_ = &block;
  }
  void push_back(Block& block) {
    block.before = last_;
    (last_ != nullptr ? last_->after : first_) = &block;
    last_ = &block;
  }
  void remove(Block& block) {
    (block.before != nullptr ? block.before->after : first_) = block.after;
    (block.after != nullptr ? block.after->before : last_) = block.before;
    block.before = block.after = nullptr;
  }

 private:
  Block* first_ = nullptr;
  Block* last_ = nullptr;
};

}  // namespace swapmem
