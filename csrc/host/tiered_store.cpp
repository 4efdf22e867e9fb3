// TieredStore: slots, their pieces, and the copies that the caller asks for. What happens in the
// background is in tiered_moves.cpp.
#include "host/tiered_store.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "core/errors.h"
#include "core/size_class.h"

namespace swapmem {

namespace {

constexpr std::uint64_t names_bytes = std::uint64_t{1} << 62;
constexpr std::size_t most_buffers = 8;

// A sixteenth of the pinned tier at most, as two moves and two buffers should not be most of it.
std::size_t piece_size(std::size_t pinned_bytes, std::size_t wanted_bytes) {
  const std::size_t most = pinned_bytes / 16 / page_bytes * page_bytes;
  return std::max(std::min(wanted_bytes / page_bytes * page_bytes, most), page_bytes);
}

std::string use_of(const char* tier, const TierUse& use) {
  return std::to_string(use.used_bytes) + " of " + std::to_string(use.budget_bytes) + " bytes of " +
         tier + " used";
}

bool is_full(int code) {
  return code == ENOSPC || code == EDQUOT;
}

}  // namespace

// A part of one piece, and where its bytes are. The place stays as it is for as long as this lives.
struct TieredStore::Share {
  std::size_t piece;
  std::size_t offset;  // in the piece
  std::size_t bytes;
  Place place;
};

// A buffer in pinned memory, for as long as this lives. Who has one waits for copies only.
class TieredStore::Borrowed {
 public:
  explicit Borrowed(TieredStore& store) : store_(store) {
    std::unique_lock lock(store_.buffers_mutex_);
    store_.buffer_free_.wait(lock, [&] { return !store_.buffers_.empty(); });
    buffer_ = std::move(store_.buffers_.back());
    store_.buffers_.pop_back();
  }
  ~Borrowed() {
    {
      std::lock_guard lock(store_.buffers_mutex_);
      store_.buffers_.push_back(std::move(buffer_));  // there is room: it came from there
    }
    store_.buffer_free_.notify_one();
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  const std::vector<HostExtent>& memory() const { return buffer_.memory; }

 private:
  TieredStore& store_;
  Buffer buffer_;
};

TieredStore::TieredStore(std::shared_ptr<Link> link, std::unique_ptr<PinnedStore> pinned,
                         std::unique_ptr<Store> file, const TieredOptions& options)
    : link_(std::move(link)),
      pinned_(std::move(pinned)),
      file_(std::move(file)),
      piece_bytes_(piece_size(pinned_->budget_bytes(), options.piece_bytes)),
      buffers_bytes_(buffers_bytes(pinned_->budget_bytes(), options)),
      pinned_tier_(pinned_->budget_bytes() - std::min(pinned_->budget_bytes(), buffers_bytes_)),
      file_tier_(file_->budget_bytes()) {
  names_.add({0, names_bytes});
  buffers_.reserve(buffers_bytes_ / piece_bytes_);
  while (buffers_.size() < buffers_bytes_ / piece_bytes_) {
    const Slot slot = pinned_->reserve(piece_bytes_);
    buffers_.push_back({slot, pinned_->memory(slot)});
  }
  start_movers(options.movers);
}

TieredStore::~TieredStore() {
  stop_movers();
}

std::size_t TieredStore::buffers_bytes(std::size_t pinned_bytes, const TieredOptions& options) {
  const std::size_t each = piece_size(pinned_bytes, options.piece_bytes);
  return std::clamp(pinned_bytes / 8 / each, std::size_t{1}, most_buffers) * each;
}

// --- places

TieredStore::Place TieredStore::place_in_memory(std::size_t bytes) {
  auto place = std::make_shared<TierPlace>(pinned_tier_, *pinned_, bytes);
  if (!place->charged()) return nullptr;
  Slot& slot = place->add_slot();
  const auto reserved = pinned_->try_reserve(bytes);
  if (reserved) {
    slot = *reserved;
    place->set_memory(pinned_->memory(slot));
  } else {
    place.reset();
    wake_waiting();
  }
  return place;
}

// None if the tier's budget has no room; throws what the file says if it has none all the same.
TieredStore::Place TieredStore::place_in_file(std::size_t bytes) {
  auto place = std::make_shared<TierPlace>(file_tier_, *file_, bytes);
  if (!place->charged()) return nullptr;
  std::exception_ptr refusal;
  if (reserve_in_file(bytes, *place, refusal)) return place;
  place.reset();
  wake_waiting();
  std::rethrow_exception(refusal);
}

// In as few slots as the file has free pieces for.
bool TieredStore::reserve_in_file(std::size_t bytes, TierPlace& place,
                                  std::exception_ptr& refusal) {
  Slot& slot = place.add_slot();
  try {
    slot = file_->reserve(bytes);
    return true;
  } catch (const StoreError& error) {
    refusal = std::current_exception();
    if (!is_full(error.code) || bytes == page_bytes) return false;
  }
  const std::size_t half = (bytes / 2 + page_bytes - 1) / page_bytes * page_bytes;
  return reserve_in_file(half, place, refusal) && reserve_in_file(bytes - half, place, refusal);
}

// A piece of at most so many bytes: in pinned memory, if need be after others have moved down, else
// in the file, else whatever is left in either.
TieredStore::Piece TieredStore::make_piece(std::size_t start, std::size_t bytes) {
  const auto room_bytes = [&] { return pinned_tier_.room_bytes() + file_tier_.room_bytes(); };
  std::string why;
  Place place;
  const auto in_memory = [&](std::size_t most) {
    bytes = std::min(bytes, most);
    return bytes > 0 && (place = place_in_memory(bytes)) != nullptr;
  };
  const auto in_file = [&](std::size_t most) {
    bytes = std::min(bytes, most);
    try {
      return bytes > 0 && (place = place_in_file(bytes)) != nullptr;
    } catch (const StoreError& error) {
      why = error.what();
      return false;
    }
  };
  const std::size_t asked_bytes = bytes;
  for (int refusals = 0; refusals < 2;) {
    const std::uint64_t seen = changes();
    const bool had_room = room_bytes() >= asked_bytes;
    bytes = asked_bytes;
    if (in_memory(bytes)) break;
    if (await_room(bytes)) continue;
    if (in_file(bytes)) break;
    if (in_memory(std::min(pinned_tier_.room_bytes(), pinned_->free_bytes()))) break;
    bytes = asked_bytes;
    if (in_file(file_tier_.room_bytes())) break;
    if (!had_room || room_bytes() < asked_bytes) {
      // All slots together fit, this one included. So bytes that are in two places, or are still
      // read where they were, are in the way: they go.
      await_places(asked_bytes);
    } else if (!await_change(seen)) {
      ++refusals;
    }
  }
  if (!place) throw_full(asked_bytes, why);
  Piece piece;
  piece.start = start;
  piece.bytes = bytes;
  piece.place = std::move(place);
  piece.unlisted.push_back({});
  return piece;
}

void TieredStore::throw_full(std::size_t bytes, const std::string& why) const {
  std::string text = "tiered store: no room for " + std::to_string(bytes) +
                     " bytes: " + use_of("pinned memory", pinned_tier()) + ", " +
                     use_of("the file", file_tier());
  for (const std::string& notice : pinned_->notices()) text += "; " + notice;
  if (!why.empty()) text += "; " + why;
  throw StoreError(text + "; raise host_memory, or the bytes of spill_dir", ENOSPC);
}

// --- slots

Slot TieredStore::reserve(std::size_t bytes) {
  std::shared_ptr<Entry> entry;
  const auto undo = [&] {
    entry.reset();
    Lock lock(mutex_);
    used_bytes_ -= bytes;
    lock.unlock();
    changed();
  };
  {
    Lock lock(mutex_);
    const bool fits = bytes <= budget_bytes() - used_bytes_;
    if (fits) used_bytes_ += bytes;
    lock.unlock();
    if (!fits) throw_full(bytes, "");
  }
  try {
    entry = std::make_shared<Entry>();
    entry->bytes = bytes;
    entry->pieces.reserve((bytes + piece_bytes_ - 1) / piece_bytes_);
    for (std::size_t start = 0; start < bytes; start += entry->pieces.back().bytes) {
      entry->pieces.push_back(make_piece(start, std::min(piece_bytes_, bytes - start)));
    }
    for (std::size_t piece = 0; piece < entry->pieces.size(); ++piece) {
      entry->pieces[piece].unlisted.front() = {entry.get(), piece};
    }
    Lock lock(mutex_);
    const Extent name = *names_.take(bytes);
    try {
      entries_.emplace(name.offset, entry);
    } catch (...) {
      names_.give(name);
      throw;
    }
    entry->offset = name.offset;
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    if (due_down() != nullptr) work_.notify_one();
  } catch (const std::bad_alloc&) {
    undo();
    throw StoreError("tiered store: out of memory for its bookkeeping", ENOMEM);
  } catch (...) {
    undo();
    throw;
  }
  return {entry->offset, bytes};
}

void TieredStore::release(Slot slot) noexcept {
  std::shared_ptr<Entry> entry;
  std::vector<Piece> pieces;  // their places end without the lock
  {
    Lock lock(mutex_);
    const auto found = entries_.find(slot.offset);
    if (found == entries_.end()) return;
    entry = std::move(found->second);
    entries_.erase(found);
    entry->released = true;
    for (Piece& piece : entry->pieces) unlist(piece);
    stop_expecting(*entry);
    pieces.swap(entry->pieces);
    used_bytes_ -= entry->bytes;
    names_.give({entry->offset, entry->bytes});
  }
  pieces.clear();
  changed();
}

std::shared_ptr<TieredStore::Entry> TieredStore::entry_of(Slot slot) const {
  Lock lock(mutex_);
  const auto found = entries_.find(slot.offset);
  if (found == entries_.end()) throw StoreError("tiered store: no such slot", EINVAL);
  return found->second;
}

// What one piece has of [offset, offset + bytes) of the slot, from its beginning. Called with the
// lock held.
TieredStore::Share TieredStore::share_at(const Entry& entry, std::size_t offset,
                                         std::size_t bytes) const {
  if (entry.released) throw StoreError("tiered store: the slot was released", EINVAL);
  const auto after =
      std::upper_bound(entry.pieces.begin(), entry.pieces.end(), offset,
                       [](std::size_t at, const Piece& piece) { return at < piece.start; });
  const Piece& piece = *std::prev(after);
  const std::size_t in_piece = offset - piece.start;
  return {static_cast<std::size_t>(&piece - entry.pieces.data()), in_piece,
          std::min(bytes, piece.bytes - in_piece), piece.place};
}

// --- copies

void TieredStore::write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) {
  const std::shared_ptr<Entry> entry = entry_of(slot);
  for (std::size_t done = 0; done < bytes;) {
    Lock lock(mutex_);
    Share share = share_at(*entry, offset + done, bytes - done);
    if (entry->pieces[share.piece].moving) {
      share.place.reset();
      changed_.wait(lock, [&] { return entry->released || !entry->pieces[share.piece].moving; });
      continue;
    }
    Piece& piece = entry->pieces[share.piece];
    ++piece.writers;  // from here on it does not move
    unlist(piece);
    lock.unlock();
    try {
      copy_out(share, static_cast<const char*>(from) + done);
    } catch (...) {
      share.place.reset();
      end_write(*entry, share, false);
      throw;
    }
    share.place.reset();
    end_write(*entry, share, true);
    done += share.bytes;
  }
}

void TieredStore::end_write(Entry& entry, const Share& share, bool written) {
  Lock lock(mutex_);
  if (entry.released) {
    lock.unlock();
    return changed();  // the last of it went only now
  }
  Piece& piece = entry.pieces[share.piece];
  --piece.writers;
  piece.written = piece.written || written;
  list(piece);
  if (due_down() != nullptr) work_.notify_one();
}

// The parts are copied one after the other: the last one ends last.
void TieredStore::read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                              const Queued& queued) {
  const std::shared_ptr<Entry> entry = entry_of(slot);
  for (std::size_t done = 0; done < bytes;) {
    Lock lock(mutex_);
    Share share = share_at(*entry, offset + done, bytes - done);
    if (!share.place->in_memory()) stop_expecting(*entry);  // it comes now
    lock.unlock();
    try {
      copy_in(share, static_cast<char*>(to) + done,
              done + share.bytes == bytes ? queued : Queued());
    } catch (...) {
      share.place.reset();
      wake_waiting();
      throw;
    }
    share.place.reset();
    wake_waiting();  // it may have been the last who used a place
    done += share.bytes;
  }
}

// Calls f(slot, offset in the slot, memory, bytes) for each part of the range of the file's place
// that is one in memory as well.
template <typename F>
static void for_each_part_of_both(const TierPlace& file, std::size_t offset,
                                  const std::vector<HostExtent>& memory, std::size_t bytes, F f) {
  for_each_part(file.slots(), offset, bytes,
                [&](const Slot& slot, std::size_t at, std::size_t done, std::size_t share) {
                  for_each_part(memory, done, share,
                                [&](const HostExtent& extent, std::size_t in_extent,
                                    std::size_t before, std::size_t part) {
                                  f(slot, at + before, extent.memory + in_extent, part);
                                });
                });
}

void TieredStore::copy_out(const Share& share, const char* from) {
  const auto out = [&](const std::vector<HostExtent>& memory, std::size_t offset) {
    for_each_part(
        memory, offset, share.bytes,
        [&](const HostExtent& extent, std::size_t at, std::size_t done, std::size_t part) {
          link_->copy_out(extent.memory + at, from + done, part);
        });
  };
  try {
    if (share.place->in_memory()) return out(share.place->memory(), share.offset);
    const Borrowed buffer(*this);
    out(buffer.memory(), 0);
    write_file(*share.place, share.offset, buffer.memory(), share.bytes);
  } catch (const DeviceError& error) {
    throw StoreError(
        "tiered store: copy out of " + std::to_string(share.bytes) + " bytes: " + error.what(),
        EIO);
  }
}

void TieredStore::copy_in(const Share& share, char* to, const Queued& queued) {
  const auto in = [&](const std::vector<HostExtent>& memory, std::size_t offset) {
    for_each_part(
        memory, offset, share.bytes,
        [&](const HostExtent& extent, std::size_t at, std::size_t done, std::size_t part) {
          link_->copy_in(to + done, extent.memory + at, part,
                         done + part == share.bytes ? queued : Queued());
        });
  };
  try {
    if (share.place->in_memory()) return in(share.place->memory(), share.offset);
    const Borrowed buffer(*this);
    read_file(*share.place, share.offset, buffer.memory(), share.bytes);
    in(buffer.memory(), 0);
  } catch (const DeviceError& error) {
    throw StoreError(
        "tiered store: copy in of " + std::to_string(share.bytes) + " bytes: " + error.what(), EIO);
  }
}

void TieredStore::write_file(const TierPlace& file, std::size_t offset,
                             const std::vector<HostExtent>& memory, std::size_t bytes) {
  for_each_part_of_both(file, offset, memory, bytes,
                        [&](const Slot& slot, std::size_t at, const char* from, std::size_t part) {
                          file_->write(slot, at, from, part);
                        });
}

void TieredStore::read_file(const TierPlace& file, std::size_t offset,
                            const std::vector<HostExtent>& memory, std::size_t bytes) {
  for_each_part_of_both(file, offset, memory, bytes,
                        [&](const Slot& slot, std::size_t at, char* to, std::size_t part) {
                          file_->read(slot, at, to, part);
                        });
}

// --- what there is

std::size_t TieredStore::used_bytes() const {
  Lock lock(mutex_);
  return used_bytes_;
}

std::size_t TieredStore::peak_bytes() const {
  Lock lock(mutex_);
  return peak_bytes_;
}

std::size_t TieredStore::budget_bytes() const {
  return pinned_tier_.budget_bytes() + file_tier_.budget_bytes();
}

std::vector<std::string> TieredStore::notices() const {
  std::vector<std::string> notices = pinned_->notices();
  for (std::string& notice : file_->notices()) notices.push_back(std::move(notice));
  Lock lock(mutex_);
  const std::size_t failures = failures_;
  const std::exception_ptr failure = last_failure_;
  lock.unlock();
  if (!failure) return notices;
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    notices.push_back(std::to_string(failures) +
                      " moves from pinned memory to the file failed, and their bytes stayed; the "
                      "last one: " +
                      error.what());
  }
  return notices;
}

}  // namespace swapmem
