#include "core/policy.h"

namespace swapmem {

void LeastRecentlyUsed::add(Block& block) {
  if (block.retired) {
    oldest_first_.push_front(block);
  } else {
    oldest_first_.push_back(block);
  }
  block.listed = true;
}

void LeastRecentlyUsed::remove(Block& block) {
  oldest_first_.remove(block);
  block.listed = false;
}

}  // namespace swapmem
