// A block: a fixed range of addresses. While it is allocated it belongs to one array; between
// allocations the range, and often the memory behind it, waits for the next array of its size.
//
// An array of more than EngineOptions::part_bytes is made of several blocks side by side, its
// parts. They are allocated, held, offered and freed together, and move each for itself: one can
// come in as soon as one of another array has left.
//
//                    allocate                 free
//        cold, warm -> staging -> resident ... ------> warm (memory kept) or cold
//
//   resident --copy starts--> cleaning --copied--> clean --memory taken--> evicting --> out
//       ^                        |                   |                                   |
//       +------- written --------+------- written ---+        clean <--copied-- filling <+
//
// charged_bytes(block) =
//     0               cold, out, filling (its staging block is charged)
//     warm_bytes      warm
//     capacity_bytes  resident, cleaning, clean, evicting, staging
// Σ charged_bytes(block) over all blocks == Budget::used_bytes() <= Budget::limit_bytes()
// copy.bytes != 0  <=>  state in {clean, evicting, out, filling}
// arrival is not empty  =>  state == filling
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>

#include "core/device.h"
#include "core/store.h"

namespace swapmem {

struct Job;

enum class State : std::uint8_t {
  cold,      // not allocated, no memory
  warm,      // not allocated, memory behind the first warm_bytes
  staging,   // not allocated, memory being made ready for an array or filled for another block
  resident,  // memory; writable; no copy in the store
  cleaning,  // memory; read-only; being copied to the store
  clean,     // memory; read-only; the store holds the same bytes
  evicting,  // memory being taken away; the store holds the bytes
  out,       // no memory; the store holds the bytes
  filling,   // no memory yet; a staging block is being filled from the store
};

const char* name(State state);

inline bool accessible(State s) {
  return s == State::resident || s == State::cleaning || s == State::clean;
}
inline bool allocated(State s) {
  return s >= State::resident;
}

struct Block {
  // Fixed for the life of the engine.
  Address address = 0;
  std::size_t capacity_bytes = 0;
  std::uint32_t size_class = 0;
  // next_part != nullptr  =>  next_part->address == address + capacity_bytes
  Block* first_part = nullptr;  // itself where it is the first, or the only one
  Block* next_part = nullptr;
  bool is_part() const { return first_part != this || next_part != nullptr; }

  // Fixed while allocated.
  std::uint64_t id = 0;   // never reused; 0 while not allocated
  std::size_t bytes = 0;  // as asked for, of this part; <= capacity_bytes
  std::uint32_t op = 0;   // the op that allocated it (index into the op names)

  State state = State::cold;  // assigned in residency.cpp alone

  bool sealed = false;      // warm, or access refused: has to be made writable before it is used
  bool fresh = false;       // its memory is known to have read as zeros when it was allocated
  bool freed = false;       // free came while a transfer or a device call was under way
  bool evict_next = false;  // cleaning: take the memory away once the copy is complete
  bool busy = false;        // a device call is under way that must end before anything else
  bool retired = false;     // its data is not needed soon
  bool offered = false;     // every touch of it will be announced
  std::uint32_t holds = 0;  // open ops, pins and calls under way that need it resident
  std::uint32_t pins = 0;   // of which user pins
  std::size_t warm_bytes = 0;
  Fences last_use;  // of its memory, whoever's it was; empty where nothing is queued
  Slot copy;
  std::shared_ptr<Job> job;  // cleaning, filling
  std::exception_ptr error;  // of the last transfer, if it failed
  Block* staging = nullptr;  // filling: where the bytes are read to
  Fences arrival;            // filling: work that is ordered after them finds the bytes

  // In the list that it is in: the policy's, of blocks that may be evicted, or while it is nobody's
  // that of the cold or warm blocks of its size.
  Block* before = nullptr;
  Block* after = nullptr;
  bool listed = false;  // in the policy's

  bool accessible() const { return swapmem::accessible(state); }
  // An op may begin: its work can at least be ordered after the block's bytes.
  bool ready() const { return accessible() || !arrival.empty(); }

  Span span() const { return {address, capacity_bytes}; }
};

std::size_t charged_bytes(const Block& block);

// The capacity of all parts of an array, from its first one on.
inline std::size_t array_bytes(const Block& first) {
  std::size_t bytes = 0;
  for (const Block* part = &first; part != nullptr; part = part->next_part) {
    bytes += part->capacity_bytes;
  }
  return bytes;
}

}  // namespace swapmem
