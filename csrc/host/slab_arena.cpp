#include "host/slab_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>

#include "core/errors.h"
#include "core/size_class.h"
#include "host/available_memory.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace swapmem {

namespace {

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
constexpr std::size_t most_slabs = 4096;  // each is two mappings of the 65530 a process may have
constexpr std::size_t most_threads = 4;
// What the rest of the machine is left with.
constexpr std::size_t spared_bytes = std::size_t{128} << 20;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::size_t slab_size(std::size_t budget_bytes, std::size_t slab_bytes) {
  const std::size_t enough = std::max({slab_bytes, budget_bytes / most_slabs, page_bytes});
  return std::min(rounded_up(enough, page_bytes), std::max(budget_bytes, page_bytes));
}

int populate_pages(void* memory, std::size_t bytes) {
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0) return 0;
  if (errno != EINVAL) return errno;
  // Linux before 5.14.
  volatile char* page = static_cast<char*>(memory);
  for (std::size_t at = 0; at < bytes; at += page_bytes) page[at] = 0;
  return 0;
}

}  // namespace

ArenaCalls ArenaCalls::system() {
  return {populate_pages, [] { return available_memory_bytes(); }};
}

SlabArena::SlabArena(std::shared_ptr<Link> link, std::size_t budget_bytes, std::size_t slab_bytes,
                     ArenaCalls calls)
    : link_(std::move(link)),
      calls_(std::move(calls)),
      budget_bytes_(budget_bytes / page_bytes * page_bytes),
      slab_bytes_(slab_size(budget_bytes_, slab_bytes)),
      stride_bytes_(rounded_up(slab_bytes_, huge_page_bytes) + huge_page_bytes) {
  if (budget_bytes_ == 0) return;
  slabs_.resize((budget_bytes_ + slab_bytes_ - 1) / slab_bytes_, State::absent);
  wanted_ = slabs_.size();
  region_bytes_ = slabs_.size() * stride_bytes_ + huge_page_bytes;
  region_ =
      mmap(nullptr, region_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region_ == MAP_FAILED) {
    throw StoreError("pinned memory: cannot reserve addresses for a budget of " +
                         std::to_string(budget_bytes_) + " bytes: " + std::strerror(errno),
                     errno);
  }
  base_ = reinterpret_cast<char*>(
      rounded_up(reinterpret_cast<std::uintptr_t>(region_), huge_page_bytes));
  const std::size_t processors = std::max(std::thread::hardware_concurrency(), 2u);
  const std::size_t threads = std::min({processors, most_threads, slabs_.size()});
  try {
    threads_.reserve(threads);
    while (threads_.size() < threads) threads_.emplace_back([this] { grow(); });
  } catch (const std::system_error& error) {
    if (!threads_.empty()) return;  // those that there are will do
    munmap(region_, region_bytes_);
    throw StoreError(std::string("pinned memory: cannot start a thread: ") + error.what(), EAGAIN);
  }
}

SlabArena::~SlabArena() {
  stop();
  for (std::size_t slab = 0; slab < slabs_.size(); ++slab) {
    if (slabs_[slab] == State::ready) link_->unpin(at(extent_of(slab).offset), bytes_of(slab));
  }
  if (region_ != nullptr) munmap(region_, region_bytes_);
}

void SlabArena::stop() noexcept {
  {
    Lock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::size_t SlabArena::bytes_of(std::size_t slab) const {
  return std::min(slab_bytes_, budget_bytes_ - slab * slab_bytes_);
}

// --- making slabs

bool SlabArena::should_grow() const {
  return growing_ + ready_ + leaving_ < wanted_ && failure_.empty();
}

void SlabArena::grow() {
  Lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return stopping_ || should_grow(); });
    if (stopping_) return;
    const auto absent = std::find(slabs_.begin(), slabs_.end(), State::absent);
    const auto slab = static_cast<std::size_t>(absent - slabs_.begin());
    const std::size_t bytes = bytes_of(slab);
    slabs_[slab] = State::growing;
    ++growing_;
    growing_bytes_ += bytes;
    const std::size_t growing_bytes = growing_bytes_;
    lock.unlock();
    std::string failure = make_ready(slab, growing_bytes);
    lock.lock();
    if (failure.empty()) {
      try {
        free_.add(extent_of(slab));
      } catch (const std::bad_alloc&) {
        failure = "out of memory";
        lock.unlock();
        link_->unpin(at(extent_of(slab).offset), bytes);
        discard(slab);
        lock.lock();
      }
    }
    slabs_[slab] = failure.empty() ? State::ready : State::absent;
    --growing_;
    growing_bytes_ -= bytes;
    if (failure.empty()) {
      ++ready_;
      pinned_bytes_ += bytes;
    } else {
      failure_ = std::move(failure);
    }
    changed_.notify_all();
  }
}

// Touches and pins the slab; "" on success, or why it could not be, with nothing kept of it.
std::string SlabArena::make_ready(std::size_t slab, std::size_t growing_bytes) noexcept {
  std::string failure;
  try {
    failure = populate(slab, growing_bytes);
    if (failure.empty()) link_->pin(at(extent_of(slab).offset), bytes_of(slab));
  } catch (const std::bad_alloc&) {
    failure = "out of memory";  // so short that it needs none
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "refused without a reason";
  }
  if (!failure.empty()) discard(slab);
  return failure;
}

std::string SlabArena::populate(std::size_t slab, std::size_t growing_bytes) {
  const std::size_t available = calls_.available_bytes();
  if (available < growing_bytes + spared_bytes) {
    return "only " + std::to_string(available) + " bytes of memory are available";
  }
  void* memory = at(extent_of(slab).offset);
  const std::size_t bytes = bytes_of(slab);
  int code = mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
  if (code == 0) {
    // A child never reads the store, and a page that is shared with one would be copied away from
    // under the device.
    madvise(memory, bytes, MADV_DONTFORK);
    madvise(memory, bytes, MADV_HUGEPAGE);
    code = calls_.populate(memory, bytes);
  }
  return code == 0 ? "" : std::string("cannot be given memory: ") + std::strerror(code);
}

// Gives the memory back, and has the addresses as they were at first. Where the system refuses the
// latter, for too many mappings, they stay open until the end.
void SlabArena::discard(std::size_t slab) noexcept {
  void* memory = at(extent_of(slab).offset);
  madvise(memory, bytes_of(slab), MADV_DONTNEED);
  mmap(memory, bytes_of(slab), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
       -1, 0);
}

// --- taking and giving

// Returns true when so many bytes are free, waiting for slabs as long as that can still come true.
bool SlabArena::await_room(Lock& lock, std::size_t bytes) {
  while (free_.free_bytes() < bytes) {
    if (bytes > budget_bytes_ - taken_bytes_) return false;
    const std::size_t coming_bytes = free_.free_bytes() + growing_bytes_;
    if (coming_bytes < bytes) {
      const std::size_t more = (bytes - coming_bytes + slab_bytes_ - 1) / slab_bytes_;
      wanted_ = std::min(std::max(wanted_, ready_ + growing_ + leaving_ + more), slabs_.size());
      work_.notify_all();
    }
    if (growing_ == 0 && leaving_ == 0 && !should_grow()) return false;
    ++waiting_;
    changed_.wait(lock);
    --waiting_;
  }
  return true;
}

std::vector<Extent> SlabArena::take(std::size_t bytes) {
  std::vector<Extent> extents;
  Lock lock(mutex_);
  if (!await_room(lock, bytes)) return extents;
  try {
    extents.reserve(1);
    if (const auto whole = free_.take(bytes)) {
      extents.push_back(*whole);
    } else {
      for (std::size_t left = bytes; left > 0; left -= extents.back().bytes) {
        extents.emplace_back();  // first, as it may fail
        extents.back() = *free_.take_largest(left);
      }
    }
  } catch (...) {
    for (const Extent& extent : extents) {
      if (extent.bytes > 0) free_.give(extent);
    }
    throw;
  }
  taken_bytes_ += bytes;
  // The next slab is made before it is needed.
  if (free_.free_bytes() + growing_bytes_ < slab_bytes_ && wanted_ < slabs_.size()) {
    wanted_ = std::min(ready_ + growing_ + leaving_ + 1, slabs_.size());
    work_.notify_one();
  }
  return extents;
}

void SlabArena::give(const std::vector<Extent>& extents) noexcept {
  {
    Lock lock(mutex_);
    for (const Extent& extent : extents) {
      free_.give(extent);
      taken_bytes_ -= extent.bytes;
    }
  }
  changed_.notify_all();  // what was given may be what somebody waits for slabs for
}

std::size_t SlabArena::trim() {
  std::vector<std::size_t> leaving;
  std::size_t bytes = 0;
  {
    Lock lock(mutex_);
    leaving.reserve(slabs_.size());
    failure_.clear();
    work_.notify_all();
    if (waiting_ > 0) return 0;  // what is free is what they wait for
    for (std::size_t slab = 0; slab < slabs_.size(); ++slab) {
      if (slabs_[slab] != State::ready || !free_.remove(extent_of(slab))) continue;
      slabs_[slab] = State::leaving;
      leaving.push_back(slab);
    }
    leaving_ += leaving.size();
    ready_ -= leaving.size();
    wanted_ = ready_ + growing_;
  }
  for (const std::size_t slab : leaving) {
    link_->unpin(at(extent_of(slab).offset), bytes_of(slab));
    discard(slab);
    Lock lock(mutex_);
    slabs_[slab] = State::absent;
    --leaving_;
    pinned_bytes_ -= bytes_of(slab);
    bytes += bytes_of(slab);
    if (should_grow()) work_.notify_all();
    changed_.notify_all();
  }
  return bytes;
}

// --- what there is

std::size_t SlabArena::pinned_bytes() const {
  Lock lock(mutex_);
  return pinned_bytes_;
}

std::size_t SlabArena::free_bytes() const {
  Lock lock(mutex_);
  return free_.free_bytes();
}

std::size_t SlabArena::capacity_bytes() const {
  Lock lock(mutex_);
  return failure_.empty() ? budget_bytes_ : pinned_bytes_;
}

std::string SlabArena::failure() const {
  Lock lock(mutex_);
  return failure_;
}

void SlabArena::await_growth() {
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return growing_ == 0 && leaving_ == 0 && !should_grow(); });
}

}  // namespace swapmem
