// Sizes: classes grow, waste little, and say their own index.
#include <vector>

#include "check.h"
#include "core/size_class.h"

using namespace swapmem;

namespace {

// Around every boundary of the classes, and in between.
std::vector<std::size_t> interesting_sizes() {
  std::vector<std::size_t> sizes;
  for (std::size_t power = 12; power < 55; ++power) {
    const std::size_t base = std::size_t{1} << power;
    for (std::size_t step = 0; step < 16; ++step) {
      const std::size_t at = base + step * (base / 16);
      for (const std::size_t size : {at - 1, at, at + 1, at + page_bytes}) sizes.push_back(size);
    }
  }
  return sizes;
}

}  // namespace

TEST(size_class, a_block_is_large_enough_and_wastes_less_than_a_sixteenth) {
  for (const std::size_t bytes : interesting_sizes()) {
    const SizeClass size = size_class(bytes);
    CHECK(size.bytes >= bytes);
    CHECK_EQUAL(size.bytes % page_bytes, 0u);
    CHECK(size.index < size_class_count);
    if (bytes >= min_block_bytes) CHECK(16 * (size.bytes - bytes) < bytes);
  }
}

TEST(size_class, larger_sizes_have_classes_that_are_no_smaller) {
  std::size_t previous = 0;
  std::uint32_t index = 0;
  for (std::size_t pages = 1; pages < 20000; ++pages) {
    const SizeClass size = size_class(pages * page_bytes);
    CHECK(size.bytes >= previous);
    CHECK(size.index == index || (size.index == index + 1 && size.bytes > previous));
    previous = size.bytes;
    index = size.index;
  }
}

TEST(size_class, a_class_is_its_own_class) {
  for (const std::size_t bytes : interesting_sizes()) {
    const SizeClass size = size_class(bytes);
    CHECK_EQUAL(size_class(size.bytes).index, size.index);
    CHECK_EQUAL(size_class(size.bytes).bytes, size.bytes);
    CHECK_EQUAL(size_class(size.bytes + 1).index, size.index + 1);
  }
}

TEST(size_class, an_index_names_its_class) {
  for (const std::size_t bytes : interesting_sizes()) {
    const SizeClass size = size_class(bytes);
    CHECK_EQUAL(size_class_at(size.index).bytes, size.bytes);
    CHECK_EQUAL(size_class_at(size.index).index, size.index);
  }
}

TEST(size_class, what_is_smaller_than_a_block_is_the_smallest_block) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, min_block_bytes}) {
    CHECK_EQUAL(size_class(bytes).bytes, min_block_bytes);
    CHECK_EQUAL(size_class(bytes).index, 0u);
  }
}
