// Several threads do everything at random, on the real device, file and faults. A failure is
// repeated (as far as threads allow) with its seed: SWAPMEM_SEED=... swapmem_tests stress/
#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/errors.h"
#include "support/rig.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t threads = 4;
constexpr std::size_t most_blocks = 12;  // of a thread
constexpr std::size_t most_block_bytes = 6 * block_bytes;

std::size_t steps() {
  const char* given = std::getenv("SWAPMEM_STRESS_STEPS");
  return given != nullptr ? std::strtoul(given, nullptr, 0) : 600;
}

struct Content {
  std::size_t bytes;
  std::uint64_t cookie;
};

// One thread with blocks of its own, and blocks that all read.
class Worker {
 public:
  Worker(Rig& rig, std::uint64_t seed, const std::map<Address, Content>& shared)
      : rig_(rig),
        engine_(rig.engine()),
        random_(seed),
        shared_(shared),
        announces_(!rig.sees_writes()) {}

  void run(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) step();
    for (const auto& [address, content] : blocks_) look(address, content);
    for (const auto& [address, content] : blocks_) engine_.free(address);
  }

 private:
  void step() {
    switch (random_() % 12) {
      case 0:
      case 1:
        make();
        break;
      case 2:
        drop();
        break;
      case 3:
        write();
        break;
      case 4:
      case 5:
        with_one([&](auto& item) { look(item.first, item.second); });
        break;
      case 6:
        for (const auto& [address, content] : shared_) {
          if (random_() % 4 == 0) look(address, content);
        }
        break;
      case 7:
        op();
        break;
      case 8:
        with_one([&](auto& item) { engine_.swap_out(item.first); });
        break;
      case 9:
        with_one([&](auto& item) { engine_.wait(engine_.swap_in(item.first)); });
        break;
      case 10:
        pin();
        break;
      default:
        if (random_() % 8 == 0) engine_.trim();
        if (random_() % 8 == 0) engine_.check_invariants();
        prefetch();
    }
  }

  template <typename F>
  void with_one(F f) {
    if (blocks_.empty()) return;
    auto item = blocks_.begin();
    std::advance(item, static_cast<std::ptrdiff_t>(random_() % blocks_.size()));
    f(*item);
  }

  // Where nothing sees an unannounced touch, every touch is announced.
  void announced(Address address, const std::function<void()>& body) {
    if (announces_) engine_.begin_op("touch", {&address, 1});
    body();
    if (announces_) engine_.end_op();
  }

  void look(Address address, const Content& content) {
    announced(address, [&] { CHECK(holds(address, content.bytes, content.cookie)); });
  }

  void make() {
    if (blocks_.size() == most_blocks) return drop();
    const std::size_t bytes = 8 * (1 + random_() % (most_block_bytes / 8));
    const std::uint64_t cookie = random_();
    engine_.begin_op("make", {});
    bool zeroed = false;
    const Address address = engine_.allocate(bytes, &zeroed);
    if (zeroed) CHECK(all_zero(address, bytes));
    CHECK(blocks_.emplace(address, Content{bytes, cookie}).second);
    fill(address, bytes, cookie);
    engine_.end_op();
  }

  void drop() {
    with_one([&](auto& item) {
      const Address address = item.first;
      if (random_() % 2 == 0) look(address, item.second);
      blocks_.erase(address);
      engine_.free(address);
    });
  }

  void write() {
    with_one([&](auto& item) {
      item.second.cookie = random_();
      announced(item.first, [&] { fill(item.first, item.second.bytes, item.second.cookie); });
    });
  }

  void op() {
    std::vector<Address> touched;
    for (const auto& [address, content] : blocks_) {
      if (random_() % 4 == 0 && touched.size() < 3) touched.push_back(address + random_() % 64);
    }
    engine_.begin_op("op", touched);
    for (const Address inside : touched) {
      auto& [address, content] = *std::prev(blocks_.upper_bound(inside));
      CHECK(holds(address, content.bytes, content.cookie));
      content.cookie = random_();
      fill(address, content.bytes, content.cookie);
    }
    if (random_() % 3 == 0 && !touched.empty()) {
      engine_.end_op({touched.data(), 1});
    } else {
      engine_.end_op();
    }
  }

  void pin() {
    with_one([&](auto& item) {
      engine_.pin(item.first);
      // Asked once: a copy that was given up may end meanwhile.
      const State state = engine_.block(item.first)->state;
      CHECK(state == State::resident || state == State::cleaning);
      CHECK(holds(item.first, item.second.bytes, item.second.cookie));
      item.second.cookie = random_();
      fill(item.first, item.second.bytes, item.second.cookie);
      engine_.unpin(item.first);
    });
  }

  void prefetch() {
    std::vector<Address> wanted;
    for (const auto& [address, content] : blocks_) {
      if (random_() % 3 == 0) wanted.push_back(address);
    }
    engine_.prefetch(wanted);
  }

  Rig& rig_;
  Engine& engine_;
  std::mt19937_64 random_;
  const std::map<Address, Content>& shared_;
  const bool announces_;
  std::map<Address, Content> blocks_;
};

const std::vector<Pair>& stressed() {
  static const std::vector<Pair> all = [] {
    std::vector<Pair> some;
    for (const Pair& pair : pairs()) {
      if (pair.name == "host+file" || pair.name == "host+checksum" || pair.name == "blind+memory") {
        some.push_back(pair);
      }
    }
    return some;
  }();
  return all;
}

void stress(const Pair& kind, std::size_t part_bytes) {
  RigOptions options;
  options.part_bytes = part_bytes;
  // Room for what the threads hold at once (four blocks each), and a little more.
  options.budget_bytes = threads * 5 * most_block_bytes;
  options.store_bytes = std::size_t{128} << 20;
  options.workers = 3;
  Rig rig(kind, options);
  std::map<Address, Content> shared;
  for (std::size_t n = 0; n < 24; ++n) {
    const Address address = rig.make(most_block_bytes);
    rig.forget(address);
    rig.engine().begin_op("share", {&address, 1});
    fill(address, most_block_bytes, n);
    rig.engine().end_op();
    shared[address] = {most_block_bytes, n};
  }
  std::vector<std::unique_ptr<Task>> tasks;
  for (std::size_t n = 0; n < threads; ++n) {
    tasks.push_back(
        std::make_unique<Task>([&, n] { Worker(rig, check::seed() + n, shared).run(steps()); }));
  }
  for (const auto& task : tasks) task->join();
  rig.check();
  for (const auto& [address, content] : shared) {
    rig.engine().begin_op("check", {&address, 1});
    CHECK(holds(address, content.bytes, content.cookie));
    rig.engine().end_op();
    rig.engine().free(address);
  }
  CHECK(rig.engine().stats().swap_in_count > 0);
  rig.finish();
}

}  // namespace

TEST_EACH(stress, no_byte_is_lost_whatever_threads_do, stressed()) {
  stress(kind, no_parts);
}

TEST_EACH(stress, no_byte_of_an_array_in_parts_is_lost, stressed()) {
  stress(kind, 2 * block_bytes);
}
