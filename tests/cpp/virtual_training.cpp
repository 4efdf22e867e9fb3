// Plays iterations of a training program on the engine, the CUDA device and the pinned store, over
// the fake driver in virtual time, and prints what each of them took as a line of JSON.
//
//   virtual_training PROGRAM
//
// tests/planner/virtual_gpu.py writes programs, and says what is modelled. Every op is a kernel
// that takes as long as the program says, checks that what it touches holds what was written last,
// and writes it anew. Fails if bytes were wrong, or if the driver saw anything wrong.
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/policy.h"
#include "cuda/cuda_device.h"
#include "host/pinned_store.h"
#include "support/bytes.h"
#include "support/fake_state.h"
#include "support/one_at_a_time.h"
#include "support/training_program.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t cookie_bytes = 64;  // at both ends of a block

// A point in the program's stream whose time can be read.
class Moment {
 public:
  explicit Moment(cuda::CUstream stream) {
    const cuda::Driver& driver = cuda::driver();
    driver.check(driver.cuEventCreate(&event_, cuda::CU_EVENT_DEFAULT), "cuEventCreate");
    driver.check(driver.cuEventRecord(event_, stream), "cuEventRecord");
  }
  ~Moment() { cuda::driver().cuEventDestroy(event_); }
  Moment(const Moment&) = delete;
  Moment& operator=(const Moment&) = delete;

  double seconds_since(const Moment& earlier) const {
    float milliseconds = 0;
    const cuda::Driver& driver = cuda::driver();
    driver.check(driver.cuEventElapsedTime(&milliseconds, earlier.event_, event_), "elapsed");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cuda::CUevent event_ = nullptr;
};
using Moments = std::vector<std::unique_ptr<Moment>>;

// What an iteration was.
struct Iteration {
  Moments op_begins, op_ends;
  std::unique_ptr<Moment> end;
  Stats stats{};  // up to its end
};

class Player {
 public:
  explicit Player(const TrainingProgram& program)
      : program_(program), blocks_(program.blocks.size()), context_(0), scope_(context_) {
    const Machine& machine = program.machine;
    cuda::check(cuda::driver().cuStreamCreate(&stream_, cuda::CU_STREAM_NON_BLOCKING), "create");
    auto device =
        std::make_unique<cuda::CudaDevice>(0, machine.frame_bytes, std::size_t{256} << 30);
    auto store = std::make_unique<PinnedStore>(device->link(), machine.store_bytes);
    store->await_growth();
    engine_ = std::make_unique<Engine>(std::move(device), std::move(store),
                                       std::make_unique<LeastRecentlyUsed>(), machine.engine);
    fake_set_rates(&machine.rates);
    fake_set_costs(&machine.costs);
    fake_set_delays(&machine.delays);
  }
  ~Player() {
    cuda::driver().cuStreamSynchronize(stream_);
    engine_.reset();
    cuda::driver().cuStreamDestroy(stream_);
  }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  void play() {
    const cuda::CurrentStream current(stream_);
    const OneAtATime order;
    for (std::uint32_t block = 0; block < blocks_.size(); ++block) {
      if (program_.blocks[block].at_begin) allocate(block);
    }
    start_ = std::make_unique<Moment>(stream_);
    for (std::size_t i = 0; i < program_.iterations; ++i) iterate(i == 0);
    cuda::check(cuda::driver().cuStreamSynchronize(stream_), "synchronize");
    engine_->drain();
    engine_->check_invariants();
  }

  void print() const {
    const Moment* begin = start_.get();
    Stats before{};
    for (const Iteration& it : iterations_) {
      const Stats& stats = it.stats;
      std::printf(
          "{\"seconds\": %.9g, \"host_stall_seconds\": %.9g, \"out_bytes\": %zu, \"in_bytes\": "
          "%zu, "
          "\"misses\": %llu, \"unplanned\": %llu, ",
          it.end->seconds_since(*begin), stats.stall_seconds - before.stall_seconds,
          stats.swap_out_bytes - before.swap_out_bytes, stats.swap_in_bytes - before.swap_in_bytes,
          static_cast<unsigned long long>(stats.plan_misses - before.plan_misses),
          static_cast<unsigned long long>(stats.unplanned_evictions - before.unplanned_evictions));
      print("op_begin_seconds", it.op_begins, *begin);
      std::printf(", ");
      print("op_end_seconds", it.op_ends, *begin);
      std::printf("}\n");
      begin = it.end.get();
      before = stats;
    }
  }

  int wrong() const { return wrong_; }

 private:
  struct Live {
    Address address = 0;
    std::uint64_t cookie = 0;  // 0: nothing was written yet
  };
  // What a kernel does to a block. Runs when the stream comes to it.
  struct Use {
    Address address;
    std::size_t bytes;
    std::uint64_t was, becomes;
  };
  struct Kernel {
    Player* player;
    std::vector<Use> uses;
  };

  void iterate(bool first) {
    Iteration& it = iterations_.emplace_back();
    carry_over();
    engine_->begin_iteration();
    if (program_.planned) {
      if (first) engine_->set_plan(resolved(), names());
      engine_->follow_plan();
    }
    auto change = program_.changes.begin();
    for (std::size_t i = 0; i < program_.ops.size(); ++i) {
      const Op& op = program_.ops[i];
      between(change, 2 * i);
      if (op.gap_seconds > 0) launch("gap", {}, op.gap_seconds);
      std::vector<Address> touched;
      for (const std::uint32_t block : op.touches) touched.push_back(blocks_[block].address);
      engine_->begin_op(op.name, touched);
      std::vector<std::uint32_t> uses = op.touches;
      auto last = change;  // up to the last allocation; frees after it are of what the op uses
      for (auto at = change; at != program_.changes.end() && at->slot == 2 * i + 1; ++at) {
        if (at->allocates) last = at + 1;
      }
      for (; change != last; ++change) {
        apply(*change);
        if (change->allocates) uses.push_back(change->block);
        if (!change->allocates) std::erase(uses, change->block);
      }
      it.op_begins.push_back(std::make_unique<Moment>(stream_));
      launch(op.name, uses, op.seconds);
      it.op_ends.push_back(std::make_unique<Moment>(stream_));
      between(change, 2 * i + 1);
      engine_->end_op();
    }
    between(change, 2 * program_.ops.size());
    if (program_.tail_seconds > 0) launch("tail", {}, program_.tail_seconds);
    it.end = std::make_unique<Moment>(stream_);
    it.stats = engine_->stats();
  }

  // What was made in the iteration before stands elsewhere in this one.
  void carry_over() {
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const std::uint32_t from = program_.blocks[i].carried_from;
      if (from != no_plan_block && blocks_[from].address != 0) {
        blocks_[i] = std::exchange(blocks_[from], {});
      }
    }
  }

  void between(std::vector<Change>::const_iterator& change, std::size_t slot) {
    for (; change != program_.changes.end() && change->slot == slot; ++change) apply(*change);
  }

  void apply(const Change& change) {
    if (change.allocates) {
      allocate(change.block);
    } else {
      // With the first part the whole array.
      if (is_first(change.block)) engine_->free(blocks_[change.block].address);
      blocks_[change.block] = {};
    }
  }

  bool is_first(std::uint32_t block) const { return program_.blocks[block].part == 0; }

  void allocate(std::uint32_t block) {
    const std::vector<ProgramBlock>& all = program_.blocks;
    if (!is_first(block)) {
      blocks_[block] = {blocks_[block - 1].address + all[block - 1].bytes, 0};
      return;
    }
    std::size_t bytes = all[block].bytes;
    for (std::size_t i = block + 1; i < all.size() && all[i].part != 0; ++i) bytes += all[i].bytes;
    const Address address = engine_->allocate(bytes);
    if (engine_->capacity_bytes(address) != bytes) {
      throw std::runtime_error("an array of " + std::to_string(bytes) + " bytes takes more");
    }
    engine_->offer({&address, 1});
    blocks_[block] = {address, 0};
  }

  void launch(const std::string& name, const std::vector<std::uint32_t>& blocks, double seconds) {
    std::vector<FakeRange> ranges;
    auto kernel = std::make_unique<Kernel>(Kernel{this, {}});
    for (const std::uint32_t block : blocks) {
      Live& live = blocks_[block];
      const std::size_t bytes = program_.blocks[block].bytes;
      ranges.push_back({live.address, bytes, 1});
      kernel->uses.push_back({live.address, bytes, live.cookie, ++cookies_});
      live.cookie = cookies_;
    }
    const auto run = [](void* given) {
      const std::unique_ptr<Kernel> owned(static_cast<Kernel*>(given));
      for (const Use& use : owned->uses) owned->player->run(use);
    };
    cuda::check(fake_launch(stream_, name.c_str(), run, kernel.release(), ranges.data(),
                            static_cast<int>(ranges.size()), seconds),
                name.c_str());
  }

  void run(const Use& use) {
    for (const Address at : {use.address, use.address + use.bytes - cookie_bytes}) {
      if (use.was != 0 && !holds(at, cookie_bytes, use.was)) ++wrong_;
      fill(at, cookie_bytes, use.becomes);
    }
  }

  // The plan, of the blocks that there are now.
  Plan resolved() const {
    Plan plan = program_.plan;
    for (PlanBlock& block : plan.blocks) {
      const Live& live = blocks_[block.address];
      const bool lives = live.address != 0;
      // Parts of an array are numbered one after another.
      const std::uint32_t part = program_.blocks[block.address].part;
      block.address = live.address;
      block.id = lives ? engine_->block(live.address)->id + part : 0;
    }
    return plan;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Op& op : program_.ops) names.push_back(op.name);
    return names;
  }

  static void print(const char* name, const Moments& moments, const Moment& begin) {
    std::printf("\"%s\": [", name);
    for (std::size_t i = 0; i < moments.size(); ++i) {
      std::printf("%s%.9g", i == 0 ? "" : ", ", moments[i]->seconds_since(begin));
    }
    std::printf("]");
  }

  const TrainingProgram& program_;
  std::vector<Live> blocks_;
  const cuda::Context context_;
  const cuda::Context::Scope scope_;
  cuda::CUstream stream_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Moment> start_;
  std::vector<Iteration> iterations_;
  std::uint64_t cookies_ = 0;
  int wrong_ = 0;
};

int play(const char* path) {
  std::ifstream file(path);
  const TrainingProgram program = read_program(file);
  fake_reset();
  fake_set_devices(1, 2 * program.machine.budget_bytes);
  fake_set_granularity(program.machine.granularity_bytes);
  fake_set_garbage(0);
  fake_seed(0);
  cuda::driver().cuInit(0);
  Player player(program);
  player.play();
  player.print();
  const std::string reports = report_text();
  std::fputs(reports.c_str(), stderr);
  if (player.wrong() != 0) std::fprintf(stderr, "wrong bytes %d times\n", player.wrong());
  return reports.empty() && player.wrong() == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fputs("usage: virtual_training PROGRAM\n", stderr);
    return 2;
  }
  try {
    return play(arguments[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
