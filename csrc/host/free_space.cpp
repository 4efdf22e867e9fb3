#include "host/free_space.h"

#include <algorithm>
#include <iterator>

namespace swapmem {

FreeSpace::Nodes FreeSpace::make_nodes() {
  ByOffset by_offset{{0, 0}};
  ByBytes by_bytes{{0, 0}};
  return {by_offset.extract(by_offset.begin()), by_bytes.extract(by_bytes.begin())};
}

void FreeSpace::make_place_for_spare() {
  if (spares_.size() == spares_.capacity()) spares_.reserve(2 * spares_.size() + 16);
}

FreeSpace::Nodes FreeSpace::unlink(ByOffset::iterator extent) noexcept {
  auto by_bytes = by_bytes_.extract({extent->second, extent->first});
  return {by_offset_.extract(extent), std::move(by_bytes)};
}

void FreeSpace::link(Nodes nodes, Extent extent) noexcept {
  nodes.by_offset.key() = extent.offset;
  nodes.by_offset.mapped() = extent.bytes;
  nodes.by_bytes.value() = {extent.bytes, extent.offset};
  by_offset_.insert(std::move(nodes.by_offset));
  by_bytes_.insert(std::move(nodes.by_bytes));
}

void FreeSpace::add(Extent extent) {
  make_place_for_spare();
  spares_.push_back(make_nodes());
  give(extent);
}

bool FreeSpace::remove(Extent extent) {
  const auto found = by_offset_.find(extent.offset);
  if (found == by_offset_.end() || found->second != extent.bytes) return false;
  unlink(found);
  free_bytes_ -= extent.bytes;
  return true;
}

Extent FreeSpace::cut(ByBytes::iterator from, std::uint64_t bytes) {
  const auto [extent_bytes, offset] = *from;
  make_place_for_spare();
  if (extent_bytes > bytes) {
    Nodes spare = make_nodes();
    link(unlink(by_offset_.find(offset)), {offset + bytes, extent_bytes - bytes});
    spares_.push_back(std::move(spare));
  } else {
    spares_.push_back(unlink(by_offset_.find(offset)));
  }
  free_bytes_ -= bytes;
  return {offset, bytes};
}

std::optional<Extent> FreeSpace::take(std::uint64_t bytes) {
  const auto best = by_bytes_.lower_bound({bytes, 0});
  if (best == by_bytes_.end()) return std::nullopt;
  return cut(best, bytes);
}

std::optional<Extent> FreeSpace::take_largest(std::uint64_t bytes) {
  if (by_bytes_.empty()) return std::nullopt;
  const auto largest = std::prev(by_bytes_.end());
  return cut(largest, std::min(bytes, largest->first));
}

void FreeSpace::give(Extent extent) noexcept {
  free_bytes_ += extent.bytes;
  Nodes nodes = std::move(spares_.back());
  spares_.pop_back();
  auto after = by_offset_.lower_bound(extent.offset);
  if (after != by_offset_.end() && after->first == extent.offset + extent.bytes) {
    extent.bytes += after->second;
    unlink(after++);
  }
  if (after != by_offset_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == extent.offset) {
      extent.offset = before->first;
      extent.bytes += before->second;
      unlink(before);
    }
  }
  link(std::move(nodes), extent);
}

}  // namespace swapmem
