// The engine: allocation, ops and swaps over one device and one store.
//
// Contract
// - Threads: every call may come from any thread. Ops belong to the thread that opened them.
// - One lock protects all bookkeeping. It is never held across a device call, a store call or a
//   wait, so `free` is quick and may come from a garbage collection in the middle of anything.
// - `allocate` and `begin_op` may wait for copies; nothing they wait for needs the caller. Where
//   work is queued, begin_op waits only until the copies are queued, too.
// - Errors: OutOfMemory, StoreError, DeviceError, InvalidBlock, and std::bad_alloc where the
//   bookkeeping itself gets no memory. A call that throws has changed nothing that the caller sees:
//   no block lost, none moved, no op opened.
// - What is held (by open ops, by pins) is never evicted: Σ capacity of held blocks <= budget.
// - An address is a block's for as long as it is allocated, whether its memory is there or not.
// - Of an array that has parts any address stands for all of them.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/budget.h"
#include "core/device.h"
#include "core/errors.h"
#include "core/frames.h"
#include "core/link_time.h"
#include "core/magazine.h"
#include "core/observe.h"
#include "core/plan.h"
#include "core/policy.h"
#include "core/record.h"
#include "core/store.h"
#include "core/transfer.h"

namespace swapmem {

struct EngineOptions {
  std::size_t budget_bytes = 0;
  std::size_t workers = 4;
  std::size_t chunk_bytes = std::size_t{2} << 20;
  // Arrays of more bytes have parts: core/block.h. A power of two, no less than a frame.
  std::size_t part_bytes = no_parts;
  std::size_t trace_events = std::size_t{1} << 16;
};

// What a swap_out or swap_in that was asked for is waiting for.
struct Ticket {
  std::uint64_t block = 0;
  Address address = 0;
  bool resident = false;  // what it should become
};

class Engine {
 public:
  Engine(std::unique_ptr<Device> device, std::unique_ptr<Store> store,
         std::unique_ptr<Policy> policy, const EngineOptions& options);
  ~Engine();  // waits for the copies under way; the addresses of live blocks become invalid
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // A block of at least `bytes` bytes, or parts side by side, resident, held by the calling
  // thread's innermost open op. `zeroed` tells whether it is known to read as zeros.
  Address allocate(std::size_t bytes, bool* zeroed = nullptr);
  void free(Address address);
  // The same two for callers that know the size: as fast as can be while nothing is held and
  // nothing was ever swapped. Such calls are not counted and not traced.
  Address allocate_quick(std::size_t bytes, bool* zeroed = nullptr);
  void free_quick(Address address, std::size_t bytes);
  bool owns(Address address) const { return region_.contains(address); }
  std::size_t capacity_bytes(Address address) const;

  // Swaps in the blocks of these addresses (any address inside a block; others are ignored) and
  // holds them, and everything allocated until the matching end_op. On a device that sees no
  // touches their bytes may still be on the way when it returns: what the calling thread's current
  // stream is given from then on comes after them. Returns how many ops the thread had open before.
  std::size_t begin_op(const std::string& op, std::span<const Address> touched);
  // Blocks of `retire` become the first to be evicted. A nested op's holds pass to its parent.
  void end_op(std::span<const Address> retire = {});
  void abort_ops(std::size_t depth);
  std::size_t op_depth();
  // The iteration before is then complete in `last_iteration`, which waits for its work. The ops
  // that the calling thread opens from now on are those of the iteration.
  void begin_iteration();
  Record last_iteration() const;
  // What iterations can follow: copies out and in at fixed ops, instead of the policy's and of
  // `prefetch`. `ops` are the names of the plan's steps, which get their indices from them. Called
  // before the iteration's first op, as is `follow_plan`: this iteration follows the plan. Where it
  // turns out to be another, the policy takes over until it ends.
  void set_plan(Plan plan, std::span<const std::string> ops);
  void follow_plan();
  // Whether the calling thread's iteration runs as planned: `prefetch` then leaves it to the plan.
  bool follows_plan();
  // On a device that sees no touches (Device::sees_touches) only these blocks are swapped out for
  // others: the caller says that each of their touches will be announced. `withdraw` takes that
  // back; the blocks are in memory when it returns.
  void offer(std::span<const Address> addresses);
  void withdraw(std::span<const Address> addresses);
  // Starts swap-ins in this order while memory can be had without waiting. Returns how many of the
  // addresses are resident or on their way.
  std::size_t prefetch(std::span<const Address> addresses);

  Ticket swap_out(Address address);
  Ticket swap_in(Address address);
  bool done(const Ticket& ticket);
  void wait(const Ticket& ticket);
  void pin(Address address);  // swapped in, writable, and so until unpin
  void unpin(Address address);
  void drain();        // until no copy is under way
  std::size_t trim();  // gives cached memory back to the system; returns the device's bytes

  // A touch that the device stopped. Returns false if the address is no live block's, or if its
  // bytes cannot be brought back; `why` then says so.
  bool fault(Address address, int thread, bool write, std::string& why);

  Stats stats();
  std::vector<Event> trace() const;
  std::vector<FaultRecord> faults() const;
  std::vector<std::string> op_names() const;
  std::optional<BlockInfo> block(Address address) const;
  void check_invariants() const;  // throws std::logic_error naming the one that is broken

  const Device& device() const { return *device_; }
  const Store& store() const { return *store_; }

  // Around fork: the bookkeeping is whole in the child, which has no workers and may only look.
  void lock_for_fork();
  void unlock_after_fork(bool in_child);
  // Makes the block writable in a child if its bytes were in memory at the fork.
  bool fault_in_child(Address address);

 private:
  using Lock = std::unique_lock<std::mutex>;

  struct OpenOp {
    std::uint32_t name;
    double begun_seconds;
    std::size_t peak_bytes;
    std::vector<std::pair<Block*, std::uint64_t>> held;  // block and its id when it was held
  };
  struct ThreadOps {
    int thread = 0;
    std::vector<OpenOp> open;
  };
  bool iterates(const ThreadOps& ops) const { return &ops == iterating_; }
  enum class Wait { no, yes };
  using Bounds = std::list<PlanRun::Bound>;  // nodes go from one to another

  // memory.cpp: room within the budget
  bool may_evict(const Block& block) const { return sees_touches_ || block.offered; }
  void list(Block& block);
  std::size_t kept_bytes() const;
  Block* obtain(Lock& lock, SizeClass size, Grant::Purpose purpose, Wait wait, std::uint32_t op,
                Block* part = nullptr);
  Block* obtain_parts(Lock& lock, const Parts& parts, std::uint32_t op);
  void put_back(Block& first, const Block* end = nullptr);
  void await_grant(Lock& lock, SizeClass size, Block* part, Grant& grant, std::uint32_t op);
  bool make_room(Lock& lock, std::size_t need_bytes);
  void clean_ahead();
  void drain_magazine(Lock& lock);
  void wait_for_change(Lock& lock);
  void note_stall(double seconds, const Block* block, std::size_t bytes, std::uint32_t op);
  void note_unplanned(const Block& block);
  [[noreturn]] void throw_out_of_memory(std::size_t requested_bytes, std::size_t used_bytes,
                                        std::uint32_t op) const;

  // moves.cpp: copies, and what follows from them
  void start_cleaning(Block& block, Priority priority, bool evict_next);
  bool try_cleaning(Block& block, Priority priority, bool evict_next);
  void request_eviction(Block& block);
  void forget_eviction(Block& block);
  std::size_t prepare_cleaning(Block& block, Job& job);
  void complete_cleaning(Block& block, Job& job);
  void evict(Lock& lock, Block& block);
  void try_evict(Lock& lock, Block& block);
  void begin_copy(Job& job);
  double end_copy(const Job& job, double now);
  void release(Lock& lock, Slot copy);
  void give_up(Span span);
  void start_filling(Block& block, Block& staging, Priority priority);
  void swap_in_now(Lock& lock, Block& block, Wait wait, std::uint32_t op);
  std::size_t prepare_filling(Block& block, Block& staging, Job& job);
  void complete_filling(Block& block, Job& job);
  void make_writable(Lock& lock, Block& block);
  void set_access(Lock& lock, Block& block, Access access, Slot unused);
  void cancel_cleaning(Lock& lock, Block& block);
  void finish_free(Block& block);

  // planned.cpp: what a plan asks for
  void start_recording(const ThreadOps& ops);
  void note(RecordKind kind, const Block& block);
  void ask_for(std::span<const std::uint32_t> numbers, Bounds& list);
  void leave_planned(Lock& lock);
  void fetch_planned(Lock& lock);
  bool fetch_now(Lock& lock, const PlanRun::Bound& bound);

  // ops.cpp, swaps.cpp
  void hold(Block& block);
  void unhold(Block& block);
  void use(Lock& lock, Block& block, Wait wait, std::uint32_t op);
  void await(Lock& lock, std::uint64_t id, Block& block, std::uint32_t op,
             bool (Block::*there)() const);
  void pin_block(Lock& lock, Block& block);
  void unpin_block(Block& block);
  void start_swap_out(Lock& lock, Block& block);
  void order_after_arrivals(Lock& lock, const ThreadOps& ops, const OpenOp& open);
  void close_op(Lock& lock, ThreadOps& ops, std::span<const Address> retire, Fence last_use,
                const Stamp& ended);
  void evict_unheld(Lock& lock);
  void bring_nearer(Lock& lock, std::span<const Address> addresses);
  bool settled(const Ticket& ticket) const;
  static bool is_settled(const Block& block, bool resident);
  bool is_going_in_circles(const Block& block, int thread);
  ThreadOps& thread_ops();
  std::uint32_t op_name(const std::string& op);
  Block* find_live(Address address) const;   // the very block
  Block* find_array(Address address) const;  // the first part of its array
  Block& live_array(Address address);        // likewise

  static void reserve_holds(OpenOp& open, std::size_t more);
  void make_live(Block& first, std::size_t bytes, ThreadOps& ops, std::uint32_t op) noexcept;
  void order(Address address, const Fences& last_use);
  void free_further(Block& second);
  void free_locked(Block& block, Slot& copy);
  void record(EventKind kind, const Block* block, std::size_t bytes, std::uint32_t op,
              double seconds = 0);
  void changed();

  const std::unique_ptr<Device> device_;
  const std::unique_ptr<Store> store_;
  const std::unique_ptr<Policy> policy_;
  const Span region_;
  const bool sees_touches_;
  const std::uint64_t serial_;  // tells engines apart in thread-local caches

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t waiting_ = 0;

  // held_bytes_ = Σ capacity of blocks with holds > 0
  // leaving_bytes_ = Σ capacity of blocks that are evicting, or cleaning with evict_next
  // live_bytes_ = Σ capacity of allocated blocks; resident_bytes_ = of those with memory
  // under_way_ = jobs + evictions + grants being applied + changes of access + trims: each ends
  // with a change
  Budget budget_;
  mutable Frames frames_;
  Magazine magazine_;
  std::atomic<bool> never_swapped_{true};
  std::atomic<std::size_t> held_bytes_{0};
  std::size_t leaving_bytes_ = 0;
  std::size_t live_bytes_ = 0;
  std::size_t resident_bytes_ = 0;
  std::size_t under_way_ = 0;
  std::uint64_t next_id_ = 1;
  std::uint64_t errors_ = 0;  // copies out and evictions that failed; the last one:
  std::exception_ptr last_error_;

  std::unordered_map<std::thread::id, std::unique_ptr<ThreadOps>> threads_;
  std::unordered_map<std::string, std::uint32_t> op_index_;
  Stats totals_;
  LinkTime link_time_;
  Trace trace_;
  static constexpr std::size_t most_fault_records = std::size_t{1} << 16;
  std::vector<FaultRecord> faults_;  // with room for as many
  // Faults of one thread at the same few blocks, without an allocation, free or op between them.
  struct Circle {
    std::array<std::uint64_t, 16> blocks{};
    std::size_t next = 0;
    int thread = 0;
    int faults = 0;
    double begun_cpu_seconds = 0;
    double begun_seconds = 0;
  };
  Circle circle_;

  // The thread whose ops are the iteration's; null before there is one.
  const ThreadOps* iterating_ = nullptr;
  Recorder recorder_;
  std::atomic<bool> recording_{false};
  PlanRun plan_;
  // What the plan has asked for and what could not be done at once, in order.
  Bounds to_leave_;
  Bounds to_fetch_;
  bool fetching_ = false;             // a thread is working on to_fetch_
  std::size_t waiting_for_room_ = 0;  // threads; fetches take nothing from them

  // Last: its destructor completes jobs, which need everything above.
  std::unique_ptr<TransferQueue> queue_;
};

}  // namespace swapmem
