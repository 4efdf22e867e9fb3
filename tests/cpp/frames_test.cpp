// Frames: who gets which memory, checked against a model of a device that only counts pages.
#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/frames.h"
#include "core/residency.h"

using namespace swapmem;

namespace {

constexpr std::size_t frame_bytes = std::size_t{2} << 20;
constexpr Address base = std::size_t{64} << 30;

// Remembers which pages have memory and what it came from; fails on command.
class ModelDevice : public Device {
 public:
  Span region() const override { return {base, std::size_t{64} << 30}; }
  std::size_t frame_bytes() const override { return ::frame_bytes; }
  void commit(Span span) override {
    maybe_fail();
    for (Address a = span.address; a < span.end(); a += page_bytes) {
      if (!pages.contains(a)) pages[a] = {a, true};
    }
  }
  void decommit(Span span, const Fences&) override {
    for (Address a = span.address; a < span.end(); a += page_bytes) pages.erase(a);
  }
  void move(Address from, Address to, std::size_t bytes, const Fences&) override {
    maybe_fail();
    CHECK(bytes < ::frame_bytes ||
          (from % ::frame_bytes == 0 && to % ::frame_bytes == 0 && bytes % ::frame_bytes == 0));
    moved_bytes += bytes;
    for (std::size_t at = 0; at < bytes; at += page_bytes) {
      CHECK(pages.contains(from + at));  // nothing is moved that is not there
      CHECK(!pages.contains(to + at));   // and nothing is lost
      pages[to + at] = pages[from + at];
      pages.erase(from + at);
    }
  }
  void protect(Span, Access) override {}
  bool sees_writes() const override { return true; }
  Address begin_fill(Span staging, Span) override { return staging.address; }
  void finish_fill(Span, Span) override {}

  bool has_all(Span span) const {
    for (Address a = span.address; a < span.end(); a += page_bytes) {
      if (!pages.contains(a)) return false;
    }
    return true;
  }
  void dirty(Span span) {
    for (Address a = span.address; a < span.end(); a += page_bytes) pages[a].fresh = false;
  }
  bool all_fresh(Span span) const {
    for (Address a = span.address; a < span.end(); a += page_bytes) {
      if (!pages.at(a).fresh) return false;
    }
    return true;
  }

  // The runs of neighbours that were neighbours from the first: what the system keeps a mapping
  // for.
  std::size_t mappings() const {
    std::size_t runs = 0;
    Address before = 0;
    Address origin_before = 0;
    for (const auto& [address, page] : pages) {
      if (address - before != page_bytes || page.origin - origin_before != page_bytes) ++runs;
      before = address;
      origin_before = page.origin;
    }
    return runs;
  }

  struct Page {
    Address origin;
    bool fresh;
  };
  std::map<Address, Page> pages;
  std::size_t moved_bytes = 0;
  int calls_before_failure = -1;

 private:
  void maybe_fail() {
    if (calls_before_failure >= 0 && calls_before_failure-- == 0) {
      throw DeviceError("injected", ENOMEM);
    }
  }
};

struct Bench {
  ModelDevice device;
  Budget budget;
  Frames frames{device, budget};
  explicit Bench(std::size_t budget_bytes) : budget(budget_bytes) {}

  // What the engine does for an allocation; nullptr if there is no room.
  Block* get(std::size_t bytes) {
    Grant grant;
    if (!frames.grant(size_class(bytes), grant)) return nullptr;
    try {
      frames.apply(grant, Grant::Purpose::array);
    } catch (const DeviceError&) {
      frames.undo(grant);
      frames.revoke(grant);
      throw;
    }
    frames.settle(grant);
    CHECK(device.has_all(grant.block->span()));
    if (grant.block->fresh) CHECK(device.all_fresh(grant.block->span()));
    transition(*grant.block, State::resident);
    device.dirty(grant.block->span());
    return grant.block;
  }
  void put(Block* block) { frames.put_warm(*block); }

  void check() {
    std::size_t charged = 0;
    for (const Block& block : frames.blocks()) charged += charged_bytes(block);
    CHECK_EQUAL(charged, budget.used_bytes());
    CHECK(device.pages.size() * page_bytes <= budget.used_bytes());
    CHECK(budget.used_bytes() <= budget.limit_bytes());
  }
};

}  // namespace

TEST(frames, a_freed_block_serves_the_next_of_its_size_without_device_work) {
  Bench bench(std::size_t{16} << 20);
  Block* first = bench.get(100000);
  bench.put(first);
  Grant grant;
  CHECK(bench.frames.grant(size_class(100000), grant));
  CHECK(grant.block == first);
  CHECK(!grant.device_work());
  CHECK(!first->fresh);
}

TEST(frames, a_grant_that_does_not_fit_changes_nothing) {
  Bench bench(10 * min_block_bytes);
  Block* held = bench.get(6 * min_block_bytes);
  bench.put(bench.get(2 * min_block_bytes));
  const std::size_t used = bench.budget.used_bytes();
  Grant grant;
  CHECK(!bench.frames.grant(size_class(5 * min_block_bytes), grant));
  CHECK_EQUAL(bench.budget.used_bytes(), used);
  CHECK_EQUAL(bench.frames.warm_bytes(), 2 * min_block_bytes);
  CHECK(bench.frames.grant(size_class(4 * min_block_bytes), grant));
  CHECK(held->state == State::resident);
}

TEST(frames, small_blocks_make_room_for_a_larger_one_and_are_not_pieced_together) {
  Bench bench(8 * min_block_bytes);
  std::vector<Block*> small;
  for (int i = 0; i < 8; ++i) small.push_back(bench.get(min_block_bytes));
  for (Block* block : small) bench.put(block);
  Block* large = bench.get(8 * min_block_bytes);
  CHECK(large != nullptr);
  bench.check();
  CHECK_EQUAL(bench.budget.used_bytes(), 8 * min_block_bytes);
  CHECK_EQUAL(bench.device.moved_bytes, 0u);
  CHECK(large->fresh);
}

TEST(frames, memory_of_other_sizes_is_moved_and_not_charged_again) {
  Bench bench(8 * frame_bytes);
  Block* first = bench.get(6 * frame_bytes);
  Block* second = bench.get(2 * frame_bytes);
  bench.put(first);
  bench.put(second);
  Block* large = bench.get(7 * frame_bytes);
  CHECK(large != nullptr);
  CHECK(!large->fresh);
  CHECK_EQUAL(bench.device.moved_bytes, 7 * frame_bytes);
  CHECK_EQUAL(bench.budget.used_bytes(), 8 * frame_bytes);
  CHECK_EQUAL(bench.frames.warm_bytes(), frame_bytes);
  bench.check();
}

TEST(frames, memory_that_waits_is_taken_before_fresh_memory) {
  Bench bench(16 * frame_bytes);
  bench.put(bench.get(4 * frame_bytes));
  CHECK(bench.get(3 * frame_bytes) != nullptr);
  CHECK_EQUAL(bench.budget.used_bytes(), 4 * frame_bytes);
  bench.check();
}

TEST(frames, fresh_memory_is_taken_while_little_waits) {
  Bench bench(16 * frame_bytes);
  CHECK(bench.get(8 * frame_bytes) != nullptr);
  Block* waits = bench.get(frame_bytes);
  bench.put(waits);
  CHECK(bench.get(frame_bytes / 2)->fresh);
  CHECK(bench.get(frame_bytes) == waits);
  bench.check();
}

TEST(frames, a_donor_keeps_what_is_not_needed) {
  Bench bench(8 * min_block_bytes);
  bench.put(bench.get(8 * min_block_bytes));
  Block* small = bench.get(3 * min_block_bytes);
  CHECK_EQUAL(bench.frames.warm_bytes(), 5 * min_block_bytes);
  Block* rest = bench.get(5 * min_block_bytes);
  CHECK_EQUAL(bench.frames.warm_bytes(), 0u);
  bench.check();
  CHECK(bench.device.has_all(small->span()));
  CHECK(bench.device.has_all(rest->span()));
}

TEST(frames, a_donor_of_the_same_size_is_completed) {
  Bench bench(8 * min_block_bytes);
  Block* first = bench.get(8 * min_block_bytes);
  bench.put(first);
  Block* small = bench.get(3 * min_block_bytes);
  bench.put(small);
  CHECK(bench.get(8 * min_block_bytes) == first);
  bench.check();
}

TEST(frames, a_head_comes_before_whole_frames_that_are_aligned) {
  Bench bench(8 * frame_bytes);
  Block* large = bench.get(3 * frame_bytes + 2 * min_block_bytes);
  const std::size_t head = large->capacity_bytes % frame_bytes;
  CHECK(head != 0);
  CHECK_EQUAL((large->address + head) % frame_bytes, 0u);
  bench.put(large);
  CHECK(bench.get(2 * frame_bytes) != nullptr);
  CHECK_EQUAL(bench.device.moved_bytes, 2 * frame_bytes);
  bench.check();
}

TEST(frames, a_long_run_keeps_whole_frames_and_few_mappings) {
  std::mt19937_64 random(check::seed());
  Bench bench(12 * frame_bytes);
  std::vector<Block*> live;
  for (int step = 0; step < 3000; ++step) {
    const std::size_t bytes =
        random() % 2 == 0 ? frame_bytes + random() % (4 * frame_bytes) : 1 + random() % frame_bytes;
    if (Block* block = bench.get(bytes)) {
      live.push_back(block);
    } else {
      while (!live.empty() && random() % 4 != 0) {
        std::swap(live[random() % live.size()], live.back());
        bench.put(live.back());
        live.pop_back();
      }
    }
    if (step % 50 != 0) continue;
    std::size_t pieces = 0;
    for (const Block& block : bench.frames.blocks()) {
      if (charged_bytes(block) == 0) continue;
      if (block.capacity_bytes % frame_bytes != 0) ++pieces;
      pieces += charged_bytes(block) / frame_bytes;
    }
    CHECK(bench.device.mappings() <= pieces);
  }
}

TEST(frames, ranges_never_overlap_and_every_address_finds_its_own) {
  std::mt19937_64 random(check::seed());
  Bench bench(std::size_t{1} << 30);
  std::vector<Block*> blocks;
  for (int i = 0; i < 300; ++i) {
    Block* block = bench.get(min_block_bytes + random() % (3 * frame_bytes));
    if (block != nullptr) blocks.push_back(block);
  }
  std::sort(blocks.begin(), blocks.end(),
            [](const Block* a, const Block* b) { return a->address < b->address; });
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i > 0) CHECK(blocks[i - 1]->span().end() <= blocks[i]->address);
    CHECK(bench.frames.find(blocks[i]->address) == blocks[i]);
    CHECK(bench.frames.find(blocks[i]->span().end() - 1) == blocks[i]);
    CHECK(bench.frames.find(blocks[i]->span().end()) != blocks[i]);
  }
  CHECK(bench.frames.find(0) == nullptr);
  CHECK(bench.frames.find(base - 1) == nullptr);
  CHECK(bench.frames.find(~Address{0}) == nullptr);
}

TEST(frames, an_address_space_that_is_used_up_is_an_error_and_changes_nothing) {
  Bench bench(std::size_t{1} << 40);
  const std::size_t half = bench.device.region().bytes / 2;
  Grant first;
  CHECK(bench.frames.grant(size_class(half), first));
  Grant second;
  CHECK(bench.frames.grant(size_class(half), second));
  const std::size_t used = bench.budget.used_bytes();
  Grant third;
  CHECK_THROWS(DeviceError, bench.frames.grant(size_class(min_block_bytes), third));
  CHECK_EQUAL(bench.budget.used_bytes(), used);
  CHECK_EQUAL(bench.frames.blocks().size(), 2u);
}

TEST(frames, a_device_that_fails_at_any_call_costs_no_budget) {
  for (int nth = 0;; ++nth) {
    Bench bench(16 * frame_bytes);
    std::vector<Block*> held;
    while (Block* block = bench.get(2 * frame_bytes + frame_bytes / 4)) held.push_back(block);
    while (Block* block = bench.get(frame_bytes / 2)) held.push_back(block);
    for (Block* block : held) bench.put(block);
    const std::size_t wanted = 13 * frame_bytes + frame_bytes / 2;
    bench.device.calls_before_failure = nth;
    bool failed = false;
    try {
      bench.get(wanted);
    } catch (const DeviceError&) {
      failed = true;
    }
    bench.check();
    bench.device.calls_before_failure = -1;
    CHECK(bench.get(wanted) != nullptr || !failed);
    bench.check();
    if (!failed) {
      CHECK(nth > 2);
      break;
    }
  }
}

TEST(frames, any_sequence_of_grants_frees_and_trims_keeps_the_accounts) {
  std::mt19937_64 random(check::seed());
  for (int round = 0; round < 20; ++round) {
    Bench bench(6 * frame_bytes);
    std::vector<Block*> live;
    for (int step = 0; step < 200; ++step) {
      const auto dice = random() % 10;
      if (dice < 5) {
        if (random() % 8 == 0) bench.device.calls_before_failure = static_cast<int>(random() % 4);
        const std::size_t bytes = random() % 4 == 0 ? frame_bytes + random() % (2 * frame_bytes)
                                                    : 1 + random() % (10 * min_block_bytes);
        try {
          if (Block* block = bench.get(bytes)) live.push_back(block);
        } catch (const DeviceError&) {
        }
        bench.device.calls_before_failure = -1;
      } else if (dice < 9 && !live.empty()) {
        std::swap(live[random() % live.size()], live.back());
        bench.put(live.back());
        live.pop_back();
      } else if (Block* block = bench.frames.take_warm()) {
        bench.device.decommit(block->span(), {});
        bench.budget.release(block->warm_bytes);
        bench.frames.put_cold(*block);
      }
      bench.check();
      for (const Block* block : live) CHECK(bench.device.has_all(block->span()));
    }
  }
}
