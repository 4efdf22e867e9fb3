#include "bindings/chunk.h"

#include <algorithm>

namespace swapmem {

Chunk::Chunk() {
  std::size_t node = 1;
  for (int order = orders; order > 0; --order) {
    const std::size_t end = 2 * node;
    std::fill(room_.begin() + node, room_.begin() + end, static_cast<std::uint8_t>(order));
    node = end;
  }
  room_[0] = 0;  // no node
}

std::size_t Chunk::take(int order) {
  std::size_t node = 1;
  int node_order = orders;
  for (; node_order > order; --node_order) {
    // The half with less room that still is enough: large parts stay whole.
    const int left = room_[2 * node];
    const int right = room_[2 * node + 1];
    const bool goes_left = left >= order && (right < order || left <= right);
    node = 2 * node + (goes_left ? 0 : 1);
  }
  room_[node] = 0;
  const std::size_t first_of_order = std::size_t{1} << (orders - order);
  const std::size_t offset = (node - first_of_order) * (unit_bytes << (order - 1));
  update_above(node, order);
  return offset;
}

void Chunk::give_back(std::size_t offset, int order) {
  const std::size_t first_of_order = std::size_t{1} << (orders - order);
  const std::size_t node = first_of_order + offset / (unit_bytes << (order - 1));
  room_[node] = static_cast<std::uint8_t>(order);
  update_above(node, order);
}

void Chunk::update_above(std::size_t node, int order) {
  for (node /= 2, ++order; node > 0; node /= 2, ++order) {
    const int left = room_[2 * node];
    const int right = room_[2 * node + 1];
    const bool whole = left == order - 1 && right == order - 1;
    room_[node] = static_cast<std::uint8_t>(whole ? order : std::max(left, right));
  }
}

}  // namespace swapmem
