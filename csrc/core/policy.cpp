#include "core/policy.h"

namespace swapmem {

void LeastRecentlyUsed::add(Block& block) {
  block.older = block.newer = nullptr;
  if (oldest_ == nullptr) {
    oldest_ = newest_ = &block;
  } else if (block.retired) {
    block.newer = oldest_;
    oldest_->older = &block;
    oldest_ = &block;
  } else {
    block.older = newest_;
    newest_->newer = &block;
    newest_ = &block;
  }
  block.listed = true;
}

void LeastRecentlyUsed::remove(Block& block) {
  (block.older != nullptr ? block.older->newer : oldest_) = block.newer;
  (block.newer != nullptr ? block.newer->older : newest_) = block.older;
  block.older = block.newer = nullptr;
  block.listed = false;
}

}  // namespace swapmem
