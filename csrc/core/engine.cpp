#include "core/engine.h"

#include <algorithm>
#include <atomic>

#include "core/clock.h"
#include "core/residency.h"

namespace swapmem {

namespace {

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> serial{1};
  return serial++;
}

}  // namespace

Engine::Engine(std::unique_ptr<Device> device, std::unique_ptr<Store> store,
               std::unique_ptr<Policy> policy, const EngineOptions& options)
    : device_(std::move(device)),
      store_(std::move(store)),
      policy_(std::move(policy)),
      region_(device_->region()),
      sees_touches_(device_->sees_touches()),
      serial_(next_serial()),
      budget_(options.budget_bytes),
      frames_(*device_, budget_, options.part_bytes),
      magazine_(region_),
      trace_(options.trace_events) {
  if (options.budget_bytes < min_block_bytes) {
    throw OutOfMemory("a budget of " + std::to_string(options.budget_bytes) +
                          " bytes holds no block; the smallest is " +
                          std::to_string(min_block_bytes) + " bytes",
                      min_block_bytes, 0, options.budget_bytes, min_block_bytes, "");
  }
  op_name("");
  faults_.reserve(most_fault_records);
  queue_ = std::make_unique<TransferQueue>(*store_, options.workers, options.chunk_bytes);
}

Engine::~Engine() {
  queue_.reset();
}

Address Engine::allocate(std::size_t bytes, bool* zeroed) {
  Lock lock(mutex_);
  ThreadOps& ops = thread_ops();
  const std::uint32_t op = ops.open.empty() ? 0 : ops.open.back().name;
  // Before anything is evicted for it, and before a size that has no class is looked up.
  if (bytes > budget_.limit_bytes()) throw_out_of_memory(bytes, held_bytes_, op);
  bytes = std::max<std::size_t>(bytes, 1);
  const Parts parts = frames_.parts_of(bytes);
  if (parts.bytes() > budget_.limit_bytes() - held_bytes_) {
    throw_out_of_memory(parts.bytes(), held_bytes_, op);
  }
  if (!ops.open.empty()) reserve_holds(ops.open.back(), 1 + parts.further);
  Block* first = parts.further > 0
                     ? obtain_parts(lock, parts, op)
                     : obtain(lock, parts.first, Grant::Purpose::array, Wait::yes, op);
  Fences last_use;  // of its memory
  try {
    for (const Block* part = first; part != nullptr; part = part->next_part) {
      last_use.add(part->last_use);
    }
  } catch (...) {
    put_back(*first);
    throw;
  }
  if (zeroed != nullptr) {
    *zeroed = true;
    for (const Block* part = first; part != nullptr; part = part->next_part) {
      *zeroed = *zeroed && part->fresh;
    }
  }
  make_live(*first, bytes, ops, op);
  const Address address = first->address;
  if (!last_use.empty()) {
    lock.unlock();
    order(address, last_use);
  }
  return address;
}

void Engine::reserve_holds(OpenOp& open, std::size_t more) {
  const std::size_t needed = open.held.size() + more;
  if (needed > open.held.capacity()) open.held.reserve(std::max(needed, 2 * open.held.size()));
}

// From here on the block, or all parts, are an array of so many bytes, held by the innermost op,
// which has room for it.
void Engine::make_live(Block& first, std::size_t bytes, ThreadOps& ops, std::uint32_t op) noexcept {
  for (Block* block = &first; block != nullptr; block = block->next_part) {
    block->id = next_id_++;
    block->bytes = std::min(bytes, block->capacity_bytes);
    bytes -= block->bytes;
    block->op = op;
    block->retired = false;
    block->offered = false;
    block->error = nullptr;
    transition(*block, State::resident);
    ++totals_.allocations;
    circle_.thread = 0;
    live_bytes_ += block->capacity_bytes;
    resident_bytes_ += block->capacity_bytes;
    if (ops.open.empty()) {
      list(*block);
    } else {
      ops.open.back().held.emplace_back(block, block->id);
      hold(*block);
      for (OpenOp& open : ops.open) open.peak_bytes = std::max(open.peak_bytes, held_bytes_.load());
    }
    record(EventKind::allocate, block, block->bytes, op);
    note(RecordKind::allocate, *block);
    plan_.allocated(*block);
  }
  totals_.peak_live_bytes = std::max(totals_.peak_live_bytes, live_bytes_);
  totals_.peak_resident_bytes = std::max(totals_.peak_resident_bytes, resident_bytes_);
}

// What the caller does with its new block comes after what the memory was used for before.
void Engine::order(Address address, const Fences& last_use) {
  try {
    for (const Fence fence : last_use) device_->order(fence);
  } catch (...) {
    free(address);
    throw;
  }
}

Address Engine::allocate_quick(std::size_t bytes, bool* zeroed) {
  if (held_bytes_.load(std::memory_order_relaxed) == 0 &&
      !recording_.load(std::memory_order_relaxed)) {
    if (const Address address = magazine_.take(bytes)) {
      if (zeroed != nullptr) *zeroed = false;
      return address;
    }
  }
  return allocate(bytes, zeroed);
}

void Engine::free_quick(Address address, std::size_t bytes) {
  if (held_bytes_.load(std::memory_order_relaxed) != 0 ||
      recording_.load(std::memory_order_relaxed) || bytes > frames_.part_bytes() ||
      !never_swapped_.load(std::memory_order_relaxed) || !magazine_.put(address, bytes)) {
    free(address);
  }
}

void Engine::drain_magazine(Lock& lock) {
  // Copies of blocks that were copied ahead of need while they waited here.
  std::array<Slot, size_class_count> copies;
  std::size_t count = 0;
  magazine_.drain([&](Address address) {
    free_locked(live_array(address), copies[count]);
    if (copies[count]) ++count;
  });
  if (count == 0) return;
  lock.unlock();
  for (std::size_t i = 0; i < count; ++i) store_->release(copies[i]);
  lock.lock();
}

void Engine::free(Address address) {
  Fence last_use = 0;
  try {
    // As long as nothing was swapped its own stream will use the memory again.
    last_use = never_swapped_ ? device_->late_fence() : device_->fence();
  } catch (const DeviceError&) {
    // Its stream is gone: nothing that could still be queued there is known, and free has to end.
  }
  Slot copy;
  Block* second = nullptr;
  {
    Lock lock(mutex_);
    Block& block = live_array(address);
    if (block.address != address) throw InvalidBlock("free of an address inside a block");
    // There may be no memory for it; nothing that follows needs any.
    for (Block* part = &block; part != nullptr; part = part->next_part) {
      part->last_use.add(last_use);
    }
    second = block.next_part;
    free_locked(block, copy);
  }
  if (copy) store_->release(copy);
  if (second != nullptr) free_further(*second);
}

// One at a time: what each has in the store is released without the lock.
void Engine::free_further(Block& second) {
  for (Block* part = &second; part != nullptr; part = part->next_part) {
    Slot copy;
    {
      Lock lock(mutex_);
      free_locked(*part, copy);
    }
    if (copy) store_->release(copy);
  }
  Lock lock(mutex_);
  frames_.put_parts(*second.first_part);
}

// `copy` is what the caller has to give back to the store.
void Engine::free_locked(Block& block, Slot& copy) {
  ++totals_.frees;
  circle_.thread = 0;
  record(EventKind::free, &block, block.bytes, block.op);
  note(RecordKind::free, block);
  live_bytes_ -= block.capacity_bytes;
  if (block.holds > 0) held_bytes_ -= block.capacity_bytes;
  block.holds = block.pins = 0;
  if (block.listed) policy_->remove(block);
  block.id = 0;
  block.freed = true;
  if (block.state == State::cleaning) {
    block.job->cancelled = true;
    forget_eviction(block);
  } else if (!block.busy && block.state != State::evicting && block.state != State::filling) {
    copy = block.copy;
    block.copy = {};
    finish_free(block);
  }
  changed();
}

std::size_t Engine::capacity_bytes(Address address) const {
  Lock lock(mutex_);
  const Block* first = find_array(address);
  return first == nullptr ? 0 : array_bytes(*first);
}

Block* Engine::find_live(Address address) const {
  Block* block = frames_.find(address);
  return block != nullptr && allocated(block->state) && !block->freed ? block : nullptr;
}

// Of an array that is being freed the first part is gone first.
Block* Engine::find_array(Address address) const {
  const Block* block = find_live(address);
  return block == nullptr || block->first_part->id == 0 ? nullptr : block->first_part;
}

Block& Engine::live_array(Address address) {
  Block* block = find_array(address);
  if (block == nullptr) {
    throw InvalidBlock(
        "no block at this address: small arrays, and arrays made elsewhere, are ordinary memory");
  }
  return *block;
}

void Engine::changed() {
  if (waiting_ > 0) changed_.notify_all();
}

void Engine::wait_for_change(Lock& lock) {
  ++waiting_;
  changed_.wait(lock);
  --waiting_;
}

void Engine::record(EventKind kind, const Block* block, std::size_t bytes, std::uint32_t op,
                    double seconds) {
  trace_.add({now_seconds(), seconds, block == nullptr ? 0 : block->id, bytes, resident_bytes_,
              budget_.used_bytes(), op, kind});
}

}  // namespace swapmem
