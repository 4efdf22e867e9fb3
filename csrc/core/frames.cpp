#include "core/frames.h"

#include <algorithm>
#include <cerrno>

#include "core/errors.h"
#include "core/residency.h"

namespace swapmem {

namespace {

constexpr std::size_t granule_bytes = min_block_bytes;

std::size_t round_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}
std::size_t round_down(std::size_t n, std::size_t unit) {
  return n / unit * unit;
}

}  // namespace

Frames::Frames(Device& device, Budget& budget)
    : device_(device), budget_(budget), region_(device.region()), next_address_(region_.address) {}

Block* Frames::carve(SizeClass size) {
  const std::size_t alignment =
      size.bytes >= device_.frame_bytes() ? device_.frame_bytes() : granule_bytes;
  const Address address = round_up(next_address_, alignment);
  if (address > region_.end() || size.bytes > region_.end() - address) {
    throw DeviceError(
        "the reserved address space of " + std::to_string(region_.bytes) + " bytes is used up",
        ENOMEM);
  }
  index_.resize((round_up(address + size.bytes, granule_bytes) - region_.address) / granule_bytes);
  Block& block = blocks_.emplace_back();
  block.address = address;
  block.capacity_bytes = size.bytes;
  block.size_class = size.index;
  std::fill(
      index_.begin() + static_cast<std::ptrdiff_t>((address - region_.address) / granule_bytes),
      index_.end(), static_cast<std::uint32_t>(blocks_.size()));
  next_address_ = region_.address + index_.size() * granule_bytes;
  return &block;
}

Block* Frames::find(Address address) {
  const std::size_t granule = (address - region_.address) / granule_bytes;
  if (address < region_.address || granule >= index_.size() || index_[granule] == 0) return nullptr;
  Block& block = blocks_[index_[granule] - 1];
  return block.span().contains(address) ? &block : nullptr;
}

Block* Frames::take_cold(SizeClass size) {
  auto& list = cold_[size.index];
  if (list.empty()) return carve(size);
  Block* block = list.back();
  list.pop_back();
  return block;
}

void Frames::put_cold(Block& block) {
  if (block.state != State::cold) transition(block, State::cold);
  block.warm_bytes = 0;
  block.sealed = false;
  cold_[block.size_class].push_back(&block);
}

void Frames::put_warm(Block& block) {
  transition(block, State::warm);
  block.warm_bytes = block.capacity_bytes;
  warm_bytes_ += block.warm_bytes;
  warm_[block.size_class].push_back(&block);
}

void Frames::return_warm(Block& block) {
  warm_bytes_ += block.warm_bytes;
  warm_[block.size_class].push_front(&block);
}

Block* Frames::take_warm() {
  for (auto& list : warm_) {
    if (list.empty()) continue;
    Block* block = list.front();
    list.pop_front();
    warm_bytes_ -= block->warm_bytes;
    return block;
  }
  return nullptr;
}

// The smallest warm block that covers the need alone, else the largest; out of its list.
Block* Frames::take_donor(std::size_t need_bytes) {
  const std::uint32_t fitting = size_class(need_bytes).index;
  std::size_t i = fitting;
  while (i < size_class_count && warm_[i].empty()) ++i;
  if (i == size_class_count) {
    i = fitting;
    while (warm_[--i].empty()) {
    }
  }
  Block* block = warm_[i].front();
  warm_[i].pop_front();
  warm_bytes_ -= block->warm_bytes;
  return block;
}

// Takes memory from the end of the donor's warm part; returns how much of the need it covers.
// Whole frames are moved as they are. What is left over at the end of a donor of whole frames is
// given back and counts as fresh for the need: moving it would misalign everything that follows.
std::size_t Frames::take_memory(Block& donor, std::size_t& offset, std::size_t need_bytes,
                                Grant& grant) {
  const std::size_t frame = device_.frame_bytes();
  const bool whole_frames = need_bytes >= frame && offset % frame == 0;
  const std::size_t tail = whole_frames ? donor.warm_bytes % frame : 0;
  if (tail != 0) {
    donor.warm_bytes -= tail;
    grant.drops.push_back({donor.address + donor.warm_bytes, tail});
    return tail;
  }
  const std::size_t moved =
      std::min(donor.warm_bytes, whole_frames ? round_down(need_bytes, frame) : need_bytes);
  donor.warm_bytes -= moved;
  grant.moves.push_back({donor.address + donor.warm_bytes, grant.block->address + offset, moved});
  offset += moved;
  return moved;
}

bool Frames::grant(SizeClass size, Grant& out) {
  auto& list = warm_[size.index];
  const std::size_t have = list.empty() ? 0 : list.back()->warm_bytes;
  if (size.bytes - have > budget_.room_bytes() + warm_bytes_ - have) return false;

  Block* block = list.empty() ? take_cold(size) : list.back();
  if (!list.empty()) list.pop_back();
  warm_bytes_ -= have;
  // A range that has lost part of its memory to others is complete again only after commit.
  out.commit = block->sealed || have < size.bytes;
  block->fresh = have == 0;
  block->sealed = false;
  block->warm_bytes = 0;
  transition(*block, State::staging);
  out.block = block;

  std::size_t offset = have;
  std::size_t need = size.bytes - have;
  while (need > budget_.room_bytes()) {
    Block* donor = take_donor(need);
    while (need > budget_.room_bytes() && donor->warm_bytes > 0) {
      need -= take_memory(*donor, offset, need, out);
    }
    out.donors.push_back(donor);
  }
  budget_.charge(need);
  if (!out.moves.empty()) block->fresh = false;
  return true;
}

void Frames::apply(const Grant& grant) {
  for (const Span& drop : grant.drops) device_.decommit(drop);
  for (const Grant::Move& move : grant.moves) device_.move(move.from, move.to, move.bytes);
  if (grant.commit) device_.commit(grant.block->span());  // last: moved memory keeps its access
}

void Frames::settle(const Grant& grant) {
  for (Block* donor : grant.donors) {
    if (donor->warm_bytes == 0) {
      put_cold(*donor);
    } else {
      return_warm(*donor);
    }
  }
}

void Frames::revoke(const Grant& grant) {
  settle(grant);
  budget_.release(grant.block->capacity_bytes);
  put_cold(*grant.block);
}

void Frames::undo(const Grant& grant) {
  // Which calls took effect is not known: nothing may be left behind any of the spans.
  std::vector<Span> spans = grant.drops;
  for (const Grant::Move& move : grant.moves) spans.push_back({move.from, move.bytes});
  spans.push_back(grant.block->span());
  for (const Span& span : spans) {
    try {
      device_.decommit(span);
    } catch (const DeviceError&) {
      // The error that led here is the one that is reported.
    }
  }
}

}  // namespace swapmem
