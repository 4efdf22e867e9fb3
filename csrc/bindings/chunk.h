// A chunk that small arrays share: which parts of it are taken.
//
// The parts are halves, quarters, eighths ... down to 512 bytes, the alignment that CuPy promises.
// room_[node] = the largest part that is free below a node of the tree of halves, as an order:
// 0 for none, k for unit_bytes << (k - 1). Two halves that are free whole are one free part.
//
// Threads: the caller keeps them apart.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace swapmem {

class Chunk {
 public:
  static constexpr std::size_t bytes = std::size_t{2} << 20;
  static constexpr std::size_t unit_bytes = 512;
  static constexpr int orders = std::countr_zero(bytes / unit_bytes) + 1;

  // The order of the smallest part with room for so many bytes; they are 1 to `bytes`.
  static int order_of(std::size_t size_bytes) {
    return std::bit_width((size_bytes - 1) / unit_bytes) + 1;
  }

  Chunk();

  int largest_order() const { return room_[1]; }
  bool is_empty() const { return room_[1] == orders; }

  // Takes a part; its offset. largest_order() >= order.
  std::size_t take(int order);
  // Gives the part at this offset back.
  void give_back(std::size_t offset, int order);

 private:
  void update_above(std::size_t node, int order);

  std::array<std::uint8_t, 2 * bytes / unit_bytes> room_;  // the root is 1, halves 2n and 2n + 1
};

}  // namespace swapmem
