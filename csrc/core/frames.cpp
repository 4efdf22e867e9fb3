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
  auto& [waiting, arrays] = first_parts_[parts.bytes()];
  const auto found = std::find_if(waiting.rbegin(), waiting.rend(), is_free);
  if (found != waiting.rend()) {
    Block* first = *found;
    waiting.erase(std::next(found).base());
    return first;
  }
  waiting.reserve(arrays + 1);
  // All of them or none: a part alone would be lost.
  const std::size_t blocks_before = blocks_.size();
  const std::size_t granules_before = index_.size();
  const Address next_before = next_address_;
  try {
    Block* const first = carve(parts.first, true);
    Block* last = first;
    for (std::size_t i = 0; i < parts.further; ++i) {
      Block* part = carve(size_class(parts.further_bytes));
      part->first_part = first;
      last = last->next_part = part;
    }
    ++arrays;
    return first;
  } catch (...) {
    while (blocks_.size() > blocks_before) blocks_.pop_back();
    index_.resize(granules_before);
    next_address_ = next_before;
    throw;
  }
}

void Frames::put_parts(Block& first) noexcept {
  first_parts_.find(array_bytes(first))->second.waiting.push_back(&first);
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
  Block* block = list.last();
  list.remove(*block);
  return block;
}

void Frames::put_cold(Block& block) noexcept {
  if (block.state != State::cold) transition(block, State::cold);
  block.warm_bytes = 0;
  block.sealed = false;
  block.last_use.clear();
  if (!block.is_part()) cold_[block.size_class].push_back(block);
}

void Frames::put_warm(Block& block) noexcept {
  transition(block, State::warm);
  block.warm_bytes = block.capacity_bytes;
  warm_bytes_ += block.warm_bytes;
  auto& list = warm_[block.size_class];
  if (block.is_part()) {
    list.push_front(block);
  } else {
    list.push_back(block);
  }
}

void Frames::return_warm(Block& block) noexcept {
  warm_bytes_ += block.warm_bytes;
  warm_[block.size_class].push_front(block);
}

Block* Frames::take_warm() {
  for (auto& list : warm_) {
    if (list.empty()) continue;
    Block* block = list.first();
    list.remove(*block);
    warm_bytes_ -= block->warm_bytes;
    return block;
  }
  return nullptr;
}

// The smallest warm block that holds the need alone, else the largest that holds a frame.
Block* Frames::frames_donor(std::size_t need_bytes) const {
  const std::size_t fitting = size_class(need_bytes).index;
  for (std::size_t i = fitting; i < size_class_count; ++i) {
    if (!warm_[i].empty()) return warm_[i].first();
  }
  for (std::size_t i = fitting; i-- > first_large_;) {
    if (!warm_[i].empty()) return warm_[i].first();
  }
  return nullptr;
}

// The smallest warm block without frames that holds the need alone.
Block* Frames::loose_donor(std::size_t need_bytes) const {
  for (std::size_t i = size_class(need_bytes).index; i < first_large_; ++i) {
    if (!warm_[i].empty()) return warm_[i].first();
  }
  return nullptr;
}

// The largest warm block without frames.
Block* Frames::loose_block() const {
  for (std::size_t i = first_large_; i-- > 0;) {
    if (!warm_[i].empty()) return warm_[i].first();
  }
  return nullptr;
}

// Out of its list until its memory has left.
void Frames::enlist(Block& donor, Grant& grant) {
  grant.donors.push_back({&donor, donor.warm_bytes});
  warm_[donor.size_class].remove(donor);
  warm_bytes_ -= donor.warm_bytes;
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
    Block* donor = loose_donor(bytes);
    const bool is_begun =
        donor == nullptr && !grant.donors.empty() && grant.donors.back().block->warm_bytes != 0;
    if (is_begun) {
      donor = grant.donors.back().block;
    } else {
      if (donor == nullptr) donor = frames_donor(frame_bytes_);
      if (donor == nullptr) return {};
      enlist(*donor, grant);
    }
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
    grant.parked.push_back(nullptr);
    try {
      grant.parked.back() = take_cold(size);
    } catch (const DeviceError&) {
      grant.parked.pop_back();
      break;  // no addresses are left to wait behind
    }
    in_flight_bytes_ += size.bytes;
    Block& block = *grant.parked.back();
    left.bytes -= size.bytes;
    block.last_use = loose.last_use;
    grant.moves.push_back({left.end(), block.address, size.bytes, loose.last_use});
  }
  if (left.bytes != 0) grant.drops.push_back(loose);
  return left.bytes;
}

bool Frames::grant(SizeClass size, Grant& out, Block* part) {
  auto& list = warm_[size.index];
  Block* warm = nullptr;
  if (part == nullptr) {
    if (!list.empty() && !list.last()->is_part()) warm = list.last();
  } else if (part->state != State::cold) {
    if (part->state != State::warm || !list.contains(*part)) return false;
    warm = part;
  }
  const std::size_t have = warm == nullptr ? 0 : warm->warm_bytes;
  if (size.bytes - have > budget_.room_bytes() + warm_bytes_ - have) return false;

  Block* block = part;
  if (warm != nullptr) {
    block = warm;
    list.remove(*warm);
  } else if (block == nullptr) {
    block = take_cold(size);
  }
  warm_bytes_ -= have;
  const bool sealed_before = block->sealed;
  // A range that has lost part of its memory to others is complete again only after commit.
  out.commit = block->sealed || have < size.bytes;
  block->fresh = have == 0 && device_.commits_zeros();
  block->sealed = false;
  block->warm_bytes = 0;
  transition(*block, State::staging);
  out.block = block;
  if (have == size.bytes) return true;
  try {
    collect(have, out);
  } catch (...) {
    forget(out);
    if (have == 0) {
      put_cold(*block);
    } else {
      transition(*block, State::warm);
      block->warm_bytes = have;
      block->sealed = sealed_before;
      return_warm(*block);
    }
    throw;
  }
  return true;
}

// Of a grant that could not be made.
void Frames::forget(const Grant& grant) noexcept {
  for (const Grant::Donor& donor : grant.donors) {
    donor.block->warm_bytes = donor.had_bytes;
    return_warm(*donor.block);
  }
  for (Block* block : grant.parked) {
    if (block == nullptr) continue;
    in_flight_bytes_ -= block->capacity_bytes;
    put_cold(*block);
  }
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
    Block* donor = frames_donor(frames);
    if (donor == nullptr) break;
    enlist(*donor, out);
    const Span taken = take_off(*donor, frames, leftovers);
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
      Block* donor = loose_block();
      enlist(*donor, out);
      const Span all = take_off(*donor, donor->warm_bytes, leftovers);
      leftovers.push_back({all, donor->last_use});
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
void Frames::let_donors_go(const Grant& grant) noexcept {
  for (const auto& [donor, _] : grant.donors) {
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

void Frames::settle(const Grant& grant) noexcept {
  let_donors_go(grant);
  for (Block* block : grant.parked) {
    put_warm(*block);
    block->sealed = true;
  }
}

void Frames::revoke(const Grant& grant) noexcept {
  let_donors_go(grant);
  for (Block* block : grant.parked) {
    budget_.release(block->capacity_bytes);
    put_cold(*block);
  }
  budget_.release(grant.block->capacity_bytes);
  put_cold(*grant.block);
}

void Frames::undo(const Grant& grant) noexcept {
  // Which calls took effect is not known: nothing may be left behind any of the spans.
  const auto give_up = [this](Span span, const Fences& last_use) {
    try {
      device_.decommit(span, last_use);
    } catch (...) {
      // The error that led here is the one that is reported.
    }
  };
  for (const Grant::Piece& drop : grant.drops) give_up(drop.span, drop.last_use);
  for (const Grant::Move& move : grant.moves) {
    give_up({move.from, move.bytes}, move.last_use);
    give_up({move.to, move.bytes}, move.last_use);
  }
  give_up(grant.block->span(), grant.block->last_use);
}

}  // namespace swapmem
