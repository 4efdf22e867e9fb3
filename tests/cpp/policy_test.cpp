// The policy: an order of blocks, and nothing else.
#include <array>
#include <vector>

#include "check.h"
#include "core/policy.h"

using namespace swapmem;

namespace {

std::vector<std::uint64_t> order(const Policy& policy) {
  std::vector<std::uint64_t> ids;
  for (const Block* b = policy.first(); b != nullptr; b = policy.next(*b)) ids.push_back(b->id);
  return ids;
}

using Ids = std::vector<std::uint64_t>;

std::array<Block, 4> numbered() {
  std::array<Block, 4> blocks;
  for (std::uint64_t i = 0; i < blocks.size(); ++i) blocks[i].id = i;
  return blocks;
}

}  // namespace

TEST(policy, the_block_used_longest_ago_comes_first) {
  auto blocks = numbered();
  LeastRecentlyUsed policy;
  CHECK(policy.first() == nullptr);
  for (Block& block : blocks) policy.add(block);
  CHECK(order(policy) == Ids({0, 1, 2, 3}));
  policy.remove(blocks[1]);
  policy.add(blocks[1]);
  CHECK(order(policy) == Ids({0, 2, 3, 1}));
  for (Block& block : blocks) CHECK(block.listed);
}

TEST(policy, blocks_leave_from_the_front_the_middle_and_the_end) {
  for (std::size_t gone = 0; gone < 4; ++gone) {
    auto blocks = numbered();
    LeastRecentlyUsed policy;
    for (Block& block : blocks) policy.add(block);
    policy.remove(blocks[gone]);
    CHECK(!blocks[gone].listed);
    Ids expected;
    for (std::uint64_t i = 0; i < 4; ++i) {
      if (i != gone) expected.push_back(i);
    }
    CHECK(order(policy) == expected);
    for (Block& block : blocks) {
      if (block.listed) policy.remove(block);
    }
    CHECK(policy.first() == nullptr);
  }
}

TEST(policy, retired_blocks_come_before_all_others) {
  auto blocks = numbered();
  LeastRecentlyUsed policy;
  policy.add(blocks[0]);
  policy.add(blocks[1]);
  blocks[2].retired = true;
  policy.add(blocks[2]);
  policy.add(blocks[3]);
  CHECK(order(policy) == Ids({2, 0, 1, 3}));
}

TEST(policy, only_the_paranoid_one_keeps_nothing_after_an_op) {
  CHECK(LeastRecentlyUsed().keeps_after_op());
  CHECK(!Paranoid().keeps_after_op());
}
