// Sizes are rounded up to classes, 16 to a doubling, so that freed blocks find a new owner and a
// block wastes less than 1/16 of its size. All are multiples of the page.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace swapmem {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t min_block_bytes = 16 * page_bytes;

struct SizeClass {
  std::uint32_t index;
  std::size_t bytes;
};

// 16 pages is class 0; above, with k = floor(log2(pages - 1)), the step is 2^(k-4) pages.
inline SizeClass size_class(std::size_t bytes) {
  const std::size_t pages = (bytes + page_bytes - 1) / page_bytes;
  if (pages <= 16) return {0, min_block_bytes};
  const unsigned k = std::bit_width(pages - 1) - 1;
  const std::size_t step = std::size_t{1} << (k - 4);
  const std::size_t steps = (pages + step - 1) / step;  // 17 ... 32
  return {static_cast<std::uint32_t>(1 + 16 * (k - 4) + (steps - 17)), steps * step * page_bytes};
}

inline SizeClass size_class_at(std::uint32_t index) {
  if (index == 0) return {0, min_block_bytes};
  const unsigned k = 4 + (index - 1) / 16;
  return {index, ((index - 1) % 16 + 17) * (std::size_t{1} << (k - 4)) * page_bytes};
}

constexpr std::size_t size_class_count = 1 + 16 * 40;

}  // namespace swapmem
