// An engine over a gated device and a gated store, and a model of what its blocks must hold.
//
// All touches are announced (made inside ops), as the blind device needs them; on a device that
// sees writes, faults are served as well. `check` runs after every step.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/engine.h"
#include "core/policy.h"
#include "core/size_class.h"
#include "support/bytes.h"
#include "support/gated.h"
#include "support/kinds.h"
#include "support/task.h"

namespace swapmem::test {

constexpr std::size_t block_bytes = min_block_bytes;  // 64 KiB: one chunk

struct RigOptions {
  std::size_t budget_bytes = 64 * block_bytes;  // so much that nothing is cleaned ahead of need
  std::size_t store_bytes = std::size_t{64} << 20;
  std::size_t workers = 2;
  std::size_t chunk_bytes = block_bytes;
  std::size_t part_bytes = no_parts;  // others: the device's frames are then of one block
  std::function<std::unique_ptr<Policy>()> policy = [] {
    return std::make_unique<LeastRecentlyUsed>();
  };
};

class Rig {
 public:
  using Wrap = std::function<void(std::unique_ptr<Device>&, std::unique_ptr<Store>&)>;

  explicit Rig(const Pair& pair, const RigOptions& options = {}, const Wrap& wrap = {});
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  Engine& engine() { return *engine_; }
  GatedDevice& device() { return *device_; }
  GatedStore& store() { return *store_; }
  bool sees_writes() const { return device_->sees_writes(); }

  Address make(std::size_t bytes = block_bytes);   // a block that holds its cookie
  void adopt(Address address, std::size_t bytes);  // one that was allocated in the op that is open
  void rewrite(Address address);                   // gives it another cookie, in an op
  void rewritten_as(Address address, std::uint64_t cookie);
  std::uint64_t next_cookie() { return ++last_cookie_; }
  void write_in_open_op(Address address);
  void free(Address address);
  void forget(Address address);  // somebody else freed it

  State state(Address address);
  bool intact(Address address);  // looks without announcing: it has to be accessible
  void verify(Address address);  // announces, and checks its bytes
  void verify_all();
  void check();  // invariants and budget

  std::vector<Address> live() const;
  // Frees everything; then nothing may be left anywhere.
  void finish();

  // A block in this state, with gates closed where it would leave it by itself. The rig must have
  // the default budget, and `clean` is reached by filling it up.
  Address reach(State state);
  void open_gates();

 private:
  struct Content {
    std::size_t bytes;
    std::uint64_t cookie;
  };

  GatedDevice* device_ = nullptr;
  GatedStore* store_ = nullptr;
  std::unique_ptr<Engine> engine_;
  const std::size_t budget_bytes_;
  std::uint64_t last_cookie_ = 0;
  std::map<Address, Content> contents_;
};

inline RigOptions budget_of(std::size_t blocks) {
  RigOptions options;
  options.budget_bytes = blocks * block_bytes;
  return options;
}

inline std::vector<Address> make(Rig& rig, int count) {
  std::vector<Address> blocks;
  for (int i = 0; i < count; ++i) blocks.push_back(rig.make());
  return blocks;
}

inline void swap_out(Rig& rig, const std::vector<Address>& blocks) {
  for (const Address block : blocks) rig.engine().wait(rig.engine().swap_out(block));
}

inline bool is(Rig& rig, Address block, State state) {
  return rig.state(block) == state;
}

// The states an allocated block can be in.
inline constexpr State allocated_states[] = {State::resident, State::cleaning, State::clean,
                                             State::evicting, State::out,      State::filling};

}  // namespace swapmem::test
