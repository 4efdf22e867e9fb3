#include "core/record.h"

#include <algorithm>
#include <new>
#include <utility>

namespace swapmem {

void Recorder::begin_iteration(double now) {
  if (active_) {
    current_.ended_seconds = now;
    std::swap(last_, current_);
  }
  current_.items.clear();
  current_.stamps.clear();
  begun_item_ = 0;
  current_.begun_seconds = now;
  active_ = true;
}

void Recorder::give_up() noexcept {
  active_ = false;
  current_.items.clear();
  current_.stamps.clear();
}

void Recorder::add(const RecordItem& item, const Stamp& stamp, double now) noexcept {
  if (!active_) return;
  if (current_.items.size() == most_items) {
    give_up();
    return;
  }
  try {
    if (stamp != nullptr) current_.stamps.push_back({current_.items.size(), stamp, now});
    current_.items.push_back(item);
  } catch (const std::bad_alloc&) {
    give_up();
    return;
  }
  if (item.kind == RecordKind::begin_op) begun_item_ = current_.items.size() - 1;
}

void Recorder::stamp_begin(const Stamp& stamp, double now) noexcept {
  if (begun_item_ >= current_.items.size()) return;
  // The iteration may be another meanwhile.
  if (current_.items[begun_item_].kind != RecordKind::begin_op) return;
  try {
    current_.stamps.push_back({begun_item_, stamp, now});
  } catch (const std::bad_alloc&) {
    give_up();
  }
}

void put_on_clock_of(Device& device, Record& record) {
  std::vector<RecordItem>& items = record.items;
  std::vector<StampedItem>& stamps = record.stamps;
  const auto is_op = [](const RecordItem& item) {
    return item.kind == RecordKind::begin_op || item.kind == RecordKind::end_op;
  };
  const auto is_of_op = [&](const StampedItem& stamped) { return is_op(items[stamped.item]); };
  const auto ops = std::count_if(items.begin(), items.end(), is_op);
  if (ops == 0 || std::count_if(stamps.begin(), stamps.end(), is_of_op) != ops) return;
  // An op's begin is stamped after the stall that it began with.
  std::sort(stamps.begin(), stamps.end(),
            [](const StampedItem& a, const StampedItem& b) { return a.item < b.item; });
  const StampedItem origin = stamps.front();
  const StampedItem* op = nullptr;
  for (const StampedItem& stamped : stamps) {
    RecordItem& item = items[stamped.item];
    if (!is_op(item)) {
      item.seconds = device.seconds_between(stamped.stamp, op->stamp);
      items[op->item].seconds -= item.seconds;
      continue;
    }
    op = &stamped;
    // What the host waited for before it asked stays in the op, as a stall.
    const double waited_seconds = stamped.asked_seconds - item.seconds;
    item.seconds =
        origin.asked_seconds + device.seconds_between(origin.stamp, stamped.stamp) - waited_seconds;
  }
}

}  // namespace swapmem
