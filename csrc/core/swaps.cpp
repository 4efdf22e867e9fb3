// Engine: swaps that callers ask for by a block's address: prefetch, offers, explicit swaps, pins.
#include <algorithm>

#include "core/engine.h"
#include "core/residency.h"

namespace swapmem {

std::size_t Engine::prefetch(std::span<const Address> addresses) {
  Lock lock(mutex_);
  const ThreadOps& ops = thread_ops();
  if (plan_.follows() && iterates(ops)) return addresses.size();
  const std::uint32_t op = ops.open.empty() ? 0 : ops.open.back().name;
  // What is needed first becomes the newest.
  for (auto address = addresses.rbegin(); address != addresses.rend(); ++address) {
    for (Block* block = find_array(*address); block != nullptr; block = block->next_part) {
      if (!block->listed) continue;
      policy_->remove(*block);
      block->retired = false;
      policy_->add(*block);
    }
  }
  std::size_t coming = 0;
  for (const Address address : addresses) {
    Block* block = find_array(address);
    if (block == nullptr) continue;
    for (; block != nullptr; block = block->next_part) {
      while (block->state == State::out && !block->freed) {
        use(lock, *block, Wait::no, op);
        if (block->state != State::out) break;
        Block* oldest = policy_->first();
        const auto is_oldest = [&](Address wanted) {
          return find_array(wanted) == oldest->first_part;
        };
        if (oldest == nullptr || oldest->state != State::clean || oldest->busy ||
            std::any_of(addresses.begin(), addresses.end(), is_oldest)) {
          clean_ahead();
          bring_nearer(lock, addresses);
          return coming;
        }
        const std::uint64_t errors_before = errors_;
        evict(lock, *oldest);
        if (errors_ != errors_before) return coming;
      }
    }
    ++coming;
  }
  return coming;
}

// There is no memory for these yet: the store can get them ready meanwhile.
void Engine::bring_nearer(Lock& lock, std::span<const Address> addresses) {
  std::vector<Slot> slots;
  for (const Address address : addresses) {
    for (const Block* block = find_array(address); block != nullptr; block = block->next_part) {
      if (block->state == State::out) slots.push_back(block->copy);
    }
  }
  lock.unlock();
  for (const Slot slot : slots) store_->soon(slot);  // a slot that is released by now is let be
  lock.lock();
}

// --- which blocks may be swapped out, where touches go unseen

void Engine::offer(std::span<const Address> addresses) {
  const Fence last_use = device_->fence();
  Lock lock(mutex_);
  for (const Address address : addresses) {
    for (Block* block = find_array(address); block != nullptr; block = block->next_part) {
      if (!block->offered) block->last_use.add(last_use);
    }
  }
  for (const Address address : addresses) {
    for (Block* block = find_array(address); block != nullptr; block = block->next_part) {
      if (block->offered) continue;
      block->offered = true;
      if (!block->listed && block->holds == 0 && block->accessible()) list(*block);
    }
  }
}

void Engine::withdraw(std::span<const Address> addresses) {
  Lock lock(mutex_);
  std::vector<std::pair<Block*, std::uint64_t>> held;
  const auto let_go = [&] {
    for (const auto& [block, id] : held) {
      if (block->id == id) unhold(*block);
    }
  };
  try {
    for (const Address address : addresses) {
      for (Block* block = find_array(address); block != nullptr; block = block->next_part) {
        if (!block->offered) continue;
        held.emplace_back(block, block->id);
        block->offered = false;
        hold(*block);
      }
    }
    for (const auto& [block, id] : held) await(lock, id, *block, 0, &Block::accessible);
  } catch (...) {
    let_go();
    throw;
  }
  let_go();
}

// --- explicit swaps

Ticket Engine::swap_out(Address address) {
  const Fence last_use = device_->fence();
  Lock lock(mutex_);
  Block& first = live_array(address);
  for (Block* part = &first; part != nullptr; part = part->next_part) part->last_use.add(last_use);
  const Ticket ticket{first.id, first.address, false};
  for (Block* part = &first; part != nullptr && first.id == ticket.block; part = part->next_part) {
    start_swap_out(lock, *part);
  }
  return ticket;
}

void Engine::start_swap_out(Lock& lock, Block& block) {
  const std::uint64_t id = block.id;
  while (block.id == id) {
    if (block.holds > 0) throw InvalidBlock("the block is held by an open op or pinned");
    const bool waits = block.busy || block.state == State::filling ||
                       (block.state == State::cleaning && block.job->cancelled);
    if (waits) {
      wait_for_change(lock);
      continue;
    }
    if (block.state == State::clean && !device_->sees_writes()) {
      make_writable(lock, block);  // the copy may be older than the caller's last write
      continue;
    }
    if (block.state == State::resident) {
      start_cleaning(block, Priority::demand_out, true);
    } else if (block.state == State::clean) {
      evict(lock, block);
    } else if (block.state == State::cleaning && !block.evict_next) {
      request_eviction(block);
    }
    return;
  }
}

Ticket Engine::swap_in(Address address) {
  Lock lock(mutex_);
  Block& first = live_array(address);
  const Ticket ticket{first.id, first.address, true};
  for (Block* part = &first; part != nullptr && first.id == ticket.block; part = part->next_part) {
    use(lock, *part, Wait::yes, 0);
  }
  return ticket;
}

// A block that was freed, or that is asked for again meanwhile, keeps nobody waiting.
bool Engine::settled(const Ticket& ticket) const {
  const Block* block = find_live(ticket.address);
  if (block == nullptr || block->id != ticket.block) return true;
  while (block != nullptr && is_settled(*block, ticket.resident)) block = block->next_part;
  return block == nullptr;
}

bool Engine::is_settled(const Block& block, bool resident) {
  if (block.state == State::out) return true;
  return block.accessible() && (resident || !block.evict_next);
}

bool Engine::done(const Ticket& ticket) {
  Lock lock(mutex_);
  return settled(ticket);
}

void Engine::wait(const Ticket& ticket) {
  Lock lock(mutex_);
  while (!settled(ticket)) wait_for_change(lock);
  const Block* block = find_live(ticket.address);
  if (block == nullptr || block->id != ticket.block) return;
  for (; block != nullptr; block = block->next_part) {
    if (block->error && ticket.resident != block->accessible()) {
      std::rethrow_exception(block->error);
    }
  }
}

void Engine::pin(Address address) {
  Lock lock(mutex_);
  Block& first = live_array(address);
  const std::uint64_t id = first.id;
  for (Block* part = &first; part != nullptr && first.id == id; part = part->next_part) {
    try {
      pin_block(lock, *part);
    } catch (...) {
      for (Block* pinned = &first; pinned != part && first.id == id; pinned = pinned->next_part) {
        unpin_block(*pinned);
      }
      throw;
    }
  }
}

void Engine::pin_block(Lock& lock, Block& block) {
  const std::uint64_t id = block.id;
  hold(block);
  ++block.pins;
  try {
    if (held_bytes_ > budget_.limit_bytes()) {
      throw_out_of_memory(block.capacity_bytes, held_bytes_ - block.capacity_bytes, 0);
    }
    await(lock, id, block, 0, &Block::accessible);
    while (block.id == id) {
      if (block.busy) {
        wait_for_change(lock);
      } else if (block.state == State::cleaning) {
        cancel_cleaning(lock, block);
        if (!block.busy) break;
      } else {
        make_writable(lock, block);  // also if it is resident: an earlier attempt may have failed
        break;
      }
    }
  } catch (...) {
    if (block.id == id) {
      --block.pins;
      unhold(block);
    }
    throw;
  }
}

void Engine::unpin(Address address) {
  const Fence last_use = device_->fence();
  Lock lock(mutex_);
  Block& first = live_array(address);
  if (first.pins == 0) throw InvalidBlock("unpin of a block that is not pinned");
  for (Block* part = &first; part != nullptr; part = part->next_part) part->last_use.add(last_use);
  for (Block* part = &first; part != nullptr; part = part->next_part) unpin_block(*part);
}

void Engine::unpin_block(Block& block) {
  --block.pins;
  unhold(block);
}

void Engine::drain() {
  Lock lock(mutex_);
  while (under_way_ > 0) wait_for_change(lock);
}

std::size_t Engine::trim() {
  Lock lock(mutex_);
  drain_magazine(lock);
  std::size_t trimmed = 0;
  while (Block* block = frames_.take_warm()) {
    ++under_way_;  // who needs this memory has to wait for it, not to give up
    lock.unlock();
    std::exception_ptr error;
    try {
      device_->decommit(block->span(), block->last_use);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) {
      frames_.return_warm(*block);
    } else {
      trimmed += block->warm_bytes;
      budget_.release(block->warm_bytes);
      frames_.put_cold(*block);
    }
    --under_way_;
    changed();
    if (error) std::rethrow_exception(error);
  }
  lock.unlock();
  device_->trim();
  store_->trim();
  return trimmed;
}

}  // namespace swapmem
