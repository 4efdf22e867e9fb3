#include "core/frames.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <stdexcept>

#include "core/errors.h"
#include "core/residency.h"

namespace swapmem {

namespace {

constexpr std::size_t granule_bytes = min_block_bytes;

// Fresh memory is taken while less than this part of all memory waits for an owner.
constexpr std::size_t fresh_share = 4;

std::size_t round_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace

Frames::Frames(Device& device, Budget& budget, std::size_t part_bytes)
    : device_(device),
      budget_(budget),
      region_(device.region()),
      unit_bytes_(device.unit_bytes()),
      frame_bytes_(device.frame_bytes()),
      part_bytes_(part_bytes),
      first_large_(size_class(frame_bytes_).index),
      next_address_(region_.address) {
  if (!std::has_single_bit(part_bytes_) || part_bytes_ < frame_bytes_) {
    throw std::invalid_argument(
        "parts have to be of a power of two bytes and no less than a frame");
  }
}

Parts Frames::parts_of(std::size_t bytes) const {
  const std::size_t further = (bytes - 1) / part_bytes_;
  const std::size_t rest = bytes - further * part_bytes_;
  return {size_class(round_up(rest, unit_bytes_)), further, part_bytes_};
}

Block* Frames::carve(SizeClass size, bool ends_with_frame) {
  const std::size_t head = size.bytes % frame_bytes_;
  const bool large = size.bytes >= frame_bytes_ || ends_with_frame;
  const Address address = large ? round_up(next_address_ + head, frame_bytes_) - head
                                : round_up(next_address_, unit_bytes_);
  if (address > region_.end() || size.bytes > region_.end() - address) throw_used_up();
  index_.resize((round_up(address + size.bytes, granule_bytes) - region_.address) / granule_bytes);
  Block& block = blocks_.emplace_back();
  block.address = address;
  block.capacity_bytes = size.bytes;
  block.size_class = size.index;
  block.first_part = &block;
  std::fill(
      index_.begin() + static_cast<std::ptrdiff_t>((address - region_.address) / granule_bytes),
      index_.end(), static_cast<std::uint32_t>(blocks_.size()));
  next_address_ = region_.address + index_.size() * granule_bytes;
  return &block;
}

void Frames::throw_used_up() const {
  throw DeviceError(
      "the reserved address space of " + std::to_string(region_.bytes) + " bytes is used up",
      ENOMEM);
}

Block* Frames::take_parts(const Parts& parts) {
  const auto is_free = [](const Block* part) {
    while (part != nullptr && (part->state == State::cold || part->state == State::warm)) {
      part = part->next_part;
    }
    return part == nullptr;
  };
  auto& waiting = first_parts_[parts.bytes()];
  const auto found = std::find_if(waiting.rbegin(), waiting.rend(), is_free);
  if (found != waiting.rend()) {
    Block* first = *found;
    waiting.erase(std::next(found).base());
    return first;
  }
  // All of them or none: a part alone would be lost.
  if (parts.bytes() + frame_bytes_ > region_.end() - next_address_) throw_used_up();
  Block* const first = carve(parts.first, true);
  Block* last = first;
  for (std::size_t i = 0; i < parts.further; ++i) {
    Block* part = carve(size_class(parts.further_bytes));
    part->first_part = first;
    last = last->next_part = part;
  }
  return first;
}

void Frames::put_parts(Block& first) {
  first_parts_[array_bytes(first)].push_back(&first);
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
  block.last_use.clear();
  if (!block.is_part()) cold_[block.size_class].push_back(&block);
}

void Frames::put_warm(Block& block) {
  transition(block, State::warm);
  block.warm_bytes = block.capacity_bytes;
  warm_bytes_ += block.warm_bytes;
  auto& list = warm_[block.size_class];
  if (block.is_part()) {
    list.push_front(&block);
  } else {
    list.push_back(&block);
  }
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

Block* Frames::pop_warm(std::size_t index) {
  Block* block = warm_[index].front();
  warm_[index].pop_front();
  warm_bytes_ -= block->warm_bytes;
  return block;
}

// The smallest warm block that holds the need alone, else the largest that holds a frame.
Block* Frames::take_frames_donor(std::size_t need_bytes) {
  const std::size_t fitting = size_class(need_bytes).index;
  for (std::size_t i = fitting; i < size_class_count; ++i) {
    if (!warm_[i].empty()) return pop_warm(i);
  }
  for (std::size_t i = fitting; i-- > first_large_;) {
    if (!warm_[i].empty()) return pop_warm(i);
  }
  return nullptr;
}

// The smallest warm block without frames that holds the need alone.
Block* Frames::take_loose_donor(std::size_t need_bytes) {
  for (std::size_t i = size_class(need_bytes).index; i < first_large_; ++i) {
    if (!warm_[i].empty()) return pop_warm(i);
  }
  return nullptr;
}

// The largest warm block without frames.
Block* Frames::take_loose() {
  for (std::size_t i = first_large_; i-- > 0;) {
    if (!warm_[i].empty()) return pop_warm(i);
  }
  return nullptr;
}

// Takes frames off the end of a donor, or all that a block smaller than a frame has. The head of
// one without frames goes to the leftovers.
Span Frames::take_off(Block& donor, std::size_t most_bytes, Pieces& leftovers) {
  const bool large = donor.capacity_bytes >= frame_bytes_;
  const std::size_t head = large ? donor.capacity_bytes % frame_bytes_ : 0;
  const std::size_t taken = std::min(donor.warm_bytes - head, most_bytes);
  donor.warm_bytes -= taken;
  const Span frames{donor.address + donor.warm_bytes, taken};
  if (donor.warm_bytes == head) {
    if (head != 0) leftovers.push_back({{donor.address, head}, donor.last_use});
    donor.warm_bytes = 0;
  }
  return frames;
}

// Loose memory of one piece, out of the leftovers, of a block without frames, or of a broken frame;
// what remains of it is left over. None if there is no such piece.
Grant::Piece Frames::take_piece(std::size_t bytes, Pieces& leftovers, Grant& grant) {
  auto source = std::find_if(leftovers.begin(), leftovers.end(),
                             [&](const auto& piece) { return piece.span.bytes >= bytes; });
  if (source == leftovers.end()) {
    Block* donor = take_loose_donor(bytes);
    if (donor == nullptr && !grant.donors.empty() && grant.donors.back()->warm_bytes != 0) {
      donor = grant.donors.back();
      grant.donors.pop_back();
    } else if (donor == nullptr) {
      donor = take_frames_donor(frame_bytes_);
    }
    if (donor == nullptr) return {};
    grant.donors.push_back(donor);
    const Span span = take_off(*donor, frame_bytes_, leftovers);
    source = leftovers.insert(leftovers.end(), {span, donor->last_use});
  }
  source->span.bytes -= bytes;
  const Grant::Piece piece{{source->span.end(), bytes}, source->last_use};
  if (source->span.bytes == 0) leftovers.erase(source);
  return piece;
}

// Puts loose memory behind blocks without frames, where it waits; what is too little for a block
// is given back. Returns how much that is.
std::size_t Frames::park(Grant::Piece loose, Grant& grant) {
  Span& left = loose.span;
  while (left.bytes >= min_block_bytes) {
    SizeClass size = size_class(left.bytes);
    if (size.bytes > left.bytes) size = size_class_at(size.index - 1);
    Block* block = nullptr;
    try {
      block = take_cold(size);
    } catch (const DeviceError&) {
      break;  // no addresses are left to wait behind
    }
    left.bytes -= size.bytes;
    block->last_use = loose.last_use;
    grant.moves.push_back({left.end(), block->address, size.bytes, loose.last_use});
    grant.parked.push_back(block);
    in_flight_bytes_ += size.bytes;
  }
  if (left.bytes != 0) grant.drops.push_back(loose);
  return left.bytes;
}

bool Frames::grant(SizeClass size, Grant& out, Block* part) {
  auto& list = warm_[size.index];
  auto warm = list.end();
  if (part != nullptr) {
    warm = std::find(list.begin(), list.end(), part);
    if (warm == list.end() && part->state != State::cold) return false;
  } else if (!list.empty() && !list.back()->is_part()) {
    warm = std::prev(list.end());
  }
  const std::size_t have = warm == list.end() ? 0 : (*warm)->warm_bytes;
  if (size.bytes - have > budget_.room_bytes() + warm_bytes_ - have) return false;

  Block* block = part;
  if (warm != list.end()) {
    block = *warm;
    list.erase(warm);
  } else if (block == nullptr) {
    block = take_cold(size);
  }
  warm_bytes_ -= have;
  // A range that has lost part of its memory to others is complete again only after commit.
  out.commit = block->sealed || have < size.bytes;
  block->fresh = have == 0 && device_.commits_zeros();
  block->sealed = false;
  block->warm_bytes = 0;
  transition(*block, State::staging);
  out.block = block;
  if (have < size.bytes) collect(have, out);
  return true;
}

// Finds memory for what the granted block lacks behind its first `have` bytes. Frames come from
// frames and the head from one piece, so that nothing falls apart into ever smaller pieces; where
// that cannot be had, loose memory is given back and makes room for fresh.
void Frames::collect(std::size_t have, Grant& out) {
  Block& block = *out.block;
  std::size_t loose = have == 0 ? block.capacity_bytes % frame_bytes_ : 0;
  std::size_t frames = block.capacity_bytes - have - loose;
  std::size_t dropped = 0;
  Pieces leftovers;
  // Memory that waits is taken before fresh memory unless there is little of it: a program whose
  // sizes vary would else leave a cache for every one of them.
  const bool enough_waits =
      frames + loose <= warm_bytes_ && warm_bytes_ > budget_.used_bytes() / fresh_share;
  const std::size_t room = enough_waits ? 0 : budget_.room_bytes();
  const auto lacks = [&] { return frames + loose > room + dropped; };

  Address at = block.address + have + loose;
  while (frames > 0 && lacks()) {
    Block* donor = take_frames_donor(frames);
    if (donor == nullptr) break;
    const Span taken = take_off(*donor, frames, leftovers);
    out.donors.push_back(donor);
    out.moves.push_back({taken.address, at, taken.bytes, donor->last_use});
    block.last_use.add(donor->last_use);
    at += taken.bytes;
    frames -= taken.bytes;
  }
  if (loose > 0 && lacks()) {
    const Grant::Piece piece = take_piece(loose, leftovers, out);
    if (piece.span.bytes != 0) {
      out.moves.push_back({piece.span.address, block.address, loose, piece.last_use});
      block.last_use.add(piece.last_use);
      loose = 0;
    }
  }
  if (!out.moves.empty()) block.fresh = false;
  while (lacks()) {
    if (leftovers.empty()) {
      Block* donor = take_loose();
      const Span all = take_off(*donor, donor->warm_bytes, leftovers);
      leftovers.push_back({all, donor->last_use});
      out.donors.push_back(donor);
    }
    dropped += leftovers.back().span.bytes;
    out.drops.push_back(leftovers.back());
    leftovers.pop_back();
  }
  for (const Grant::Piece& piece : leftovers) dropped += park(piece, out);

  const std::size_t fresh = frames + loose;
  if (fresh > dropped) {
    budget_.charge(fresh - dropped);
  } else {
    out.spare_bytes = dropped - fresh;
    in_flight_bytes_ += out.spare_bytes;
  }
}

void Frames::apply(const Grant& grant, Grant::Purpose purpose) {
  for (const Grant::Piece& drop : grant.drops) device_.decommit(drop.span, drop.last_use);
  for (const Grant::Move& move : grant.moves) {
    device_.move(move.from, move.to, move.bytes, move.last_use);
  }
  if (!grant.commit) return;
  // Last: moved memory keeps its access.
  if (purpose == Grant::Purpose::array) {
    device_.commit(grant.block->span());
  } else {
    device_.commit_staging(grant.block->span());
  }
}

// The bookkeeping that follows the device calls, whether they took effect or not.
void Frames::let_donors_go(const Grant& grant) {
  for (Block* donor : grant.donors) {
    if (donor->warm_bytes == 0) {
      put_cold(*donor);
    } else {
      return_warm(*donor);
    }
  }
  for (const Block* block : grant.parked) in_flight_bytes_ -= block->capacity_bytes;
  in_flight_bytes_ -= grant.spare_bytes;
  budget_.release(grant.spare_bytes);
}

void Frames::settle(const Grant& grant) {
  let_donors_go(grant);
  for (Block* block : grant.parked) {
    put_warm(*block);
    block->sealed = true;
  }
}

void Frames::revoke(const Grant& grant) {
  let_donors_go(grant);
  for (Block* block : grant.parked) {
    budget_.release(block->capacity_bytes);
    put_cold(*block);
  }
  budget_.release(grant.block->capacity_bytes);
  put_cold(*grant.block);
}

void Frames::undo(const Grant& grant) {
  // Which calls took effect is not known: nothing may be left behind any of the spans.
  Pieces pieces = grant.drops;
  for (const Grant::Move& move : grant.moves) {
    pieces.push_back({{move.from, move.bytes}, move.last_use});
    pieces.push_back({{move.to, move.bytes}, move.last_use});
  }
  pieces.push_back({grant.block->span(), grant.block->last_use});
  for (const Grant::Piece& piece : pieces) {
    try {
      device_.decommit(piece.span, piece.last_use);
    } catch (const DeviceError&) {
      // The error that led here is the one that is reported.
    }
  }
}

}  // namespace swapmem
