#include "core/record.h"

#include <utility>

namespace swapmem {

void Recorder::begin_iteration(double now) {
  if (active_) {
    current_.ended_seconds = now;
    std::swap(last_, current_);
  }
  current_.items.clear();
  current_.begun_seconds = now;
  active_ = true;
}

void Recorder::add(const RecordItem& item) {
  if (!active_) return;
  if (current_.items.size() == most_items) {
    active_ = false;
    current_.items.clear();
    return;
  }
  current_.items.push_back(item);
}

}  // namespace swapmem
