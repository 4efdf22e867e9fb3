#include "host/pinned_store.h"

#include <cerrno>
#include <new>
#include <utility>

#include "core/errors.h"

namespace swapmem {

namespace {

constexpr std::uint64_t names_end = std::uint64_t{1} << 62;

}  // namespace

// A copy of a slot that is under way, for as long as this lives.
class PinnedStore::Copying {
 public:
  Copying(PinnedStore& store, Slot slot) : store_(store) {
    std::lock_guard lock(store_.mutex_);
    const auto found = store_.records_.find(slot.offset);
    if (found == store_.records_.end()) throw StoreError("pinned store: no such slot", EINVAL);
    offset_ = slot.offset;
    record_ = &found->second;  // stays where it is while other slots come and go
    ++record_->copies;
  }
  ~Copying() {
    std::unique_lock lock(store_.mutex_);
    if (--record_->copies > 0 || !record_->released) return;
    const auto found = store_.records_.find(offset_);
    store_.forget(std::move(lock), found);
  }
  Copying(const Copying&) = delete;
  Copying& operator=(const Copying&) = delete;

  const std::vector<HostExtent>& memory() const { return record_->memory; }

 private:
  PinnedStore& store_;
  std::uint64_t offset_ = 0;
  Record* record_ = nullptr;
};

PinnedStore::PinnedStore(std::shared_ptr<Link> link, std::size_t budget_bytes,
                         std::size_t slab_bytes, ArenaCalls calls)
    : link_(link), arena_(std::move(link), budget_bytes, slab_bytes, std::move(calls)) {
  names_.add({arena_.end_offset(), names_end - arena_.end_offset()});
}

std::optional<Slot> PinnedStore::try_reserve(std::size_t bytes) {
  try {
    const std::vector<Extent> extents = arena_.take(bytes);
    if (extents.empty()) return std::nullopt;
    std::optional<Extent> name;
    try {
      Record record;
      record.bytes = bytes;
      record.extents = extents;
      for (const Extent& extent : extents) {
        record.memory.push_back({arena_.at(extent.offset), extent.bytes});
      }
      std::lock_guard lock(mutex_);
      if (extents.size() > 1) name = names_.take(bytes);
      const Slot slot{name ? name->offset : extents[0].offset, bytes};
      records_.emplace(slot.offset, std::move(record));
      used_bytes_ += bytes;
      peak_bytes_ = std::max(peak_bytes_, used_bytes_);
      return slot;
    } catch (...) {
      if (name) {
        std::lock_guard lock(mutex_);
        names_.give(*name);
      }
      arena_.give(extents);
      throw;
    }
  } catch (const std::bad_alloc&) {
    throw StoreError("pinned store: out of memory for its bookkeeping", ENOMEM);
  }
}

Slot PinnedStore::reserve(std::size_t bytes) {
  if (const auto slot = try_reserve(bytes)) return *slot;
  std::string text = "pinned store: no room for " + std::to_string(bytes) +
                     " bytes: " + std::to_string(used_bytes()) + " bytes used of a budget of " +
                     std::to_string(budget_bytes()) + " bytes";
  const std::string failure = arena_.failure();
  if (!failure.empty()) {
    text += ", of which " + std::to_string(pinned_bytes()) + " bytes could be pinned: " + failure;
  }
  throw StoreError(text + "; raise host_memory, or name a directory with spill_dir", ENOSPC);
}

void PinnedStore::release(Slot slot) noexcept {
  std::unique_lock lock(mutex_);
  const auto record = records_.find(slot.offset);
  if (record == records_.end()) return;
  if (record->second.copies > 0) {
    record->second.released = true;
    return;
  }
  forget(std::move(lock), record);
}

// Its extents are given back after its name: whoever takes them next may need the name.
void PinnedStore::forget(std::unique_lock<std::mutex> lock, Records::iterator record) noexcept {
  const auto forgotten = records_.extract(record);
  const Record& last = forgotten.mapped();
  used_bytes_ -= last.bytes;
  if (last.extents.size() > 1) names_.give({forgotten.key(), last.bytes});
  lock.unlock();
  arena_.give(last.extents);
}

template <typename Copy>
void PinnedStore::copy(const char* what, Slot slot, std::size_t offset, std::size_t bytes,
                       Copy copy) {
  const Copying copying(*this, slot);
  try {
    for_each_part(copying.memory(), offset, bytes, copy);
  } catch (const DeviceError& error) {
    throw StoreError("pinned store: copy " + std::string(what) + " of " + std::to_string(bytes) +
                         " bytes: " + error.what(),
                     EIO);
  }
}

void PinnedStore::write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) {
  copy("out", slot, offset, bytes,
       [&](const HostExtent& extent, std::size_t at, std::size_t done, std::size_t share) {
         link_->copy_out(extent.memory + at, static_cast<const char*>(from) + done, share);
       });
}

// The parts are copied one after the other: the last one ends last.
void PinnedStore::read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                              const Queued& queued) {
  copy("in", slot, offset, bytes,
       [&](const HostExtent& extent, std::size_t at, std::size_t done, std::size_t share) {
         link_->copy_in(static_cast<char*>(to) + done, extent.memory + at, share,
                        done + share == bytes ? queued : Queued());
       });
}

std::vector<HostExtent> PinnedStore::memory(Slot slot) const {
  std::lock_guard lock(mutex_);
  return records_.at(slot.offset).memory;
}

std::size_t PinnedStore::used_bytes() const {
  std::lock_guard lock(mutex_);
  return used_bytes_;
}

std::size_t PinnedStore::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return peak_bytes_;
}

std::vector<std::string> PinnedStore::notices() const {
  const std::string failure = arena_.failure();
  if (failure.empty()) return {};
  return {std::to_string(pinned_bytes()) + " bytes of host memory are pinned of the " +
          std::to_string(budget_bytes()) + " bytes of the budget: " + failure};
}

}  // namespace swapmem
