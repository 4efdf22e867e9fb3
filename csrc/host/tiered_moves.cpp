// TieredStore: what moves between the tiers, when, and who waits for it. Functions that take no
// lock of their own and are not `run` or `work` are called with the lock held.
#include <algorithm>
#include <cerrno>
#include <iterator>
#include <numeric>
#include <system_error>
#include <utility>

#include "core/errors.h"
#include "host/tiered_store.h"

namespace swapmem {

void TieredStore::start_movers(std::size_t movers) {
  try {
    movers_.reserve(movers);
    while (movers_.size() < std::max(movers, std::size_t{1})) {
      movers_.emplace_back([this] { work(); });
    }
  } catch (const std::system_error& error) {
    if (!movers_.empty()) return;  // those that there are will do
    throw StoreError(std::string("tiered store: cannot start a thread: ") + error.what(), EAGAIN);
  }
}

void TieredStore::stop_movers() noexcept {
  {
    Lock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& mover : movers_) mover.join();
}

void TieredStore::work() noexcept {
  Lock lock(mutex_);
  while (!stopping_) {
    if (auto move = next_move()) {
      work_.notify_one();  // there may be one for the next mover as well
      lock.unlock();
      run(std::move(*move));
      lock.lock();
    } else {
      work_.wait(lock);
    }
  }
}

// --- what is due

// Above it pieces move down, up to it they move up: seven eighths of what pinned memory there is.
std::size_t TieredStore::mark_bytes() const {
  const std::size_t capacity = pinned_->capacity_bytes();
  const std::size_t usable =
      std::min(pinned_tier_.budget_bytes(), capacity - std::min(capacity, buffers_bytes_));
  return usable - usable / 8;
}

std::size_t TieredStore::wanted_bytes() const {
  return std::accumulate(wanted_bytes_.begin(), wanted_bytes_.end(), std::size_t{0});
}

// The piece that moves down next, if one is to.
const TieredStore::Candidate* TieredStore::due_down() const {
  if (paused_ || candidates_.empty()) return nullptr;
  const Candidate& oldest = candidates_.front();
  if (oldest.entry->pieces[oldest.piece].bytes > file_tier_.room_bytes()) return nullptr;
  const std::size_t used = pinned_tier_.used_bytes();
  const bool above_mark = used - std::min(used, leaving_bytes_) > mark_bytes();
  return above_mark || wanted_bytes() > leaving_bytes_ ? &oldest : nullptr;
}

// The slot of which piece `next_up` moves up next, if one is to.
std::shared_ptr<TieredStore::Entry> TieredStore::due_up() {
  while (wanted_bytes_.empty() && !expected_.empty()) {
    const std::shared_ptr<Entry> entry = expected_.front();
    for (; entry->next_up < entry->pieces.size(); ++entry->next_up) {
      const Piece& piece = entry->pieces[entry->next_up];
      if (piece.place->in_memory() || piece.moving || piece.writers > 0 || !piece.written) continue;
      // Some of what is coming is in use already: rather a piece too few than one too many.
      if (pinned_tier_.used_bytes() + coming_bytes_ + piece.bytes > mark_bytes()) return nullptr;
      return entry;
    }
    stop_expecting(*entry);
  }
  return nullptr;
}

std::optional<TieredStore::Move> TieredStore::next_move() {
  std::optional<Move> move;
  if (const Candidate* oldest = due_down()) {
    const auto entry = entries_.find(oldest->entry->offset);
    move = Move{entry->second, oldest->piece, 0, true, nullptr};
  } else if (auto entry = due_up()) {
    const std::size_t piece = entry->next_up++;
    move = Move{std::move(entry), piece, 0, false, nullptr};
  } else {
    return move;
  }
  Piece& piece = move->entry->pieces[move->piece];
  unlist(piece);
  piece.moving = true;
  move->bytes = piece.bytes;
  move->from = piece.place;
  (move->down ? leaving_bytes_ : coming_bytes_) += piece.bytes;
  ++moves_;
  return move;
}

// --- a move

// Called without the lock. The piece has its new place once the bytes are there, all of them, and
// its old one goes with the last copy from it.
void TieredStore::run(Move move) noexcept {
  Place to;
  std::exception_ptr failure;
  try {
    to = move.down ? place_in_file(move.bytes) : place_in_memory(move.bytes);
    if (to && move.down) write_file(*to, 0, move.from->memory(), move.bytes);
    if (to && !move.down) read_file(*move.from, 0, to->memory(), move.bytes);
  } catch (...) {
    failure = std::current_exception();
  }
  const bool has_place = to != nullptr && !failure;
  Lock lock(mutex_);
  if (!move.entry->released) {
    Piece& piece = move.entry->pieces[move.piece];
    piece.moving = false;
    if (has_place) piece.place.swap(to);
    list(piece);
    if (!move.down && !has_place) stop_expecting(*move.entry);
  }
  lock.unlock();
  to.reset();
  move.from.reset();
  move.entry.reset();
  lock.lock();
  // Only now: what is said to have left has left.
  --moves_;
  (move.down ? leaving_bytes_ : coming_bytes_) -= move.bytes;
  if (move.down && has_place) {
    std::size_t left = move.bytes;  // what waits for it has it, though it may not run yet
    for (std::size_t& wanted : wanted_bytes_) {
      const std::size_t met = std::min(wanted, left);
      wanted -= met;
      left -= met;
    }
  }
  if (has_place) ++changes_;
  if (move.down && failure) {
    paused_ = true;
    ++failures_;
    last_failure_ = std::move(failure);
  }
  lock.unlock();
  wake();
}

// The youngest of those that may move down, if the piece may.
void TieredStore::list(Piece& piece) {
  if (piece.listed || !piece.written || piece.moving || piece.writers > 0) return;
  if (!piece.place->in_memory()) return;
  candidates_.splice(candidates_.end(), piece.unlisted);
  piece.candidate = std::prev(candidates_.end());
  piece.listed = true;
}

void TieredStore::unlist(Piece& piece) {
  if (!piece.listed) return;
  piece.unlisted.splice(piece.unlisted.end(), candidates_, piece.candidate);
  piece.listed = false;
}

void TieredStore::soon(Slot slot) noexcept {
  Lock lock(mutex_);
  const auto found = entries_.find(slot.offset);
  if (found == entries_.end() || found->second->expected) return;
  Entry& entry = *found->second;
  try {
    entry.expectation = expected_.insert(expected_.end(), found->second);
  } catch (const std::bad_alloc&) {
    return;  // a hint
  }
  entry.expected = true;
  entry.next_up = 0;
  work_.notify_one();
}

void TieredStore::stop_expecting(Entry& entry) {
  if (!entry.expected) return;
  entry.expected = false;
  expected_.erase(entry.expectation);  // somebody else holds the entry
}

// --- who waits

// Room was given back.
void TieredStore::changed() noexcept {
  {
    Lock lock(mutex_);
    ++changes_;
  }
  wake();
}

void TieredStore::wake() noexcept {
  changed_.notify_all();
  work_.notify_all();
}

// A place may have ended. Its room is counted without the lock: who waits must not be between
// looking at it and falling asleep.
void TieredStore::wake_waiting() noexcept {
  if (waiting_ == 0) return;
  Lock(mutex_).unlock();
  changed_.notify_all();
}

std::uint64_t TieredStore::changes() const {
  Lock lock(mutex_);
  return changes_;
}

// Asks for so many bytes of pinned memory. True when some may have become free; false when nothing
// can move down, or all that could failed to.
bool TieredStore::await_room(std::size_t bytes) {
  Lock lock(mutex_);
  paused_ = false;
  const auto wanted = wanted_bytes_.insert(wanted_bytes_.end(), bytes);
  const std::uint64_t seen = changes_;
  const auto may_come = [&] { return due_down() != nullptr || leaving_bytes_ > 0; };
  if (may_come()) {
    work_.notify_all();
    changed_.wait(lock, [&] { return changes_ != seen || !may_come(); });
  }
  wanted_bytes_.erase(wanted);
  return changes_ != seen;
}

// True when something has changed since `seen`, waiting for it while anything moves.
bool TieredStore::await_change(std::uint64_t seen) {
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return changes_ != seen || moves_ == 0; });
  return changes_ != seen;
}

// Until so many bytes are free in both tiers together.
void TieredStore::await_places(std::size_t bytes) {
  ++waiting_;
  {
    Lock lock(mutex_);
    changed_.wait(lock,
                  [&] { return pinned_tier_.room_bytes() + file_tier_.room_bytes() >= bytes; });
  }
  --waiting_;
}

void TieredStore::settle() {
  Lock lock(mutex_);
  work_.notify_all();
  changed_.wait(lock, [&] { return moves_ == 0 && due_down() == nullptr && due_up() == nullptr; });
}

}  // namespace swapmem
