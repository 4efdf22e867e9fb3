// Who is evicted next. Pure decisions over blocks that may be evicted; no I/O, no locks (the
// engine's lock is held by the caller), constant time per call.
#pragma once

#include <cstddef>

#include "core/block.h"
#include "core/block_list.h"

namespace swapmem {

class Policy {
 public:
  virtual ~Policy() = default;
  virtual void add(Block& block) = 0;                 // may be evicted from now on; just used
  virtual void remove(Block& block) = 0;              // may not be evicted any more
  virtual Block* first() const = 0;                   // the best to evict, or nullptr
  virtual Block* next(const Block& block) const = 0;  // the best after that one, or nullptr

  // Whether blocks that no open op holds stay resident when an op ends.
  virtual bool keeps_after_op() const { return true; }
};

// Least recently used first; blocks that were retired come before all others.
class LeastRecentlyUsed : public Policy {
 public:
  void add(Block& block) override;
  void remove(Block& block) override;
  Block* first() const override { return oldest_first_.first(); }
  Block* next(const Block& block) const override { return block.after; }

 private:
  BlockList oldest_first_;
};

// Nothing stays that is not held: every touch that was not announced becomes a fault.
class Paranoid : public LeastRecentlyUsed {
 public:
  bool keeps_after_op() const override { return false; }
};

}  // namespace swapmem
