#include "core/record.h"

#include <algorithm>
#include <utility>

namespace swapmem {

void Recorder::begin_iteration(double now) {
  if (active_) {
    current_.ended_seconds = now;
    std::swap(last_, current_);
  }
  current_.items.clear();
  begun_item_ = 0;
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
  if (item.kind == RecordKind::begin_op) begun_item_ = current_.items.size();
  current_.items.push_back(item);
}

void Recorder::stamp_begin(const Stamp& stamp, double now) {
  if (begun_item_ >= current_.items.size()) return;
  RecordItem& item = current_.items[begun_item_];
  if (item.kind != RecordKind::begin_op) return;  // the iteration is another meanwhile
  item.stamp = stamp;
  item.stamped_seconds = now;
}

void put_on_clock_of(Device& device, Record& record) {
  const auto is_op = [](const RecordItem& item) {
    return item.kind == RecordKind::begin_op || item.kind == RecordKind::end_op;
  };
  const auto first = std::find_if(record.items.begin(), record.items.end(), is_op);
  const bool all = std::all_of(first, record.items.end(), [&](const RecordItem& item) {
    return !is_op(item) || item.stamp != nullptr;
  });
  if (first == record.items.end() || !all) return;
  const Stamp origin = first->stamp;
  const double origin_seconds = first->stamped_seconds;
  RecordItem* op = nullptr;
  for (auto item = first; item != record.items.end(); ++item) {
    if (item->kind == RecordKind::stall && item->stamp != nullptr) {
      item->seconds = device.seconds_between(item->stamp, op->stamp);
      op->seconds -= item->seconds;
    }
    if (!is_op(*item)) continue;
    op = &*item;
    // What the host waited for before it asked stays in the op, as a stall.
    const double waited_seconds = item->stamped_seconds - item->seconds;
    item->seconds = origin_seconds + device.seconds_between(origin, item->stamp) - waited_seconds;
  }
}

}  // namespace swapmem
