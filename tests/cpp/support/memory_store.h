// The smallest store that keeps the contract: bytes in memory.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "core/errors.h"
#include "core/store.h"

namespace swapmem::test {

class MemoryStore : public Store {
 public:
  explicit MemoryStore(std::size_t budget_bytes) : budget_bytes_(budget_bytes) {}

  Slot reserve(std::size_t bytes) override {
    std::lock_guard lock(mutex_);
    if (bytes > budget_bytes_ - used_bytes_) throw StoreError("memory store is full", ENOSPC);
    const Slot slot{next_offset_, bytes};
    next_offset_ += bytes;
    slots_[slot.offset].resize(bytes);
    used_bytes_ += bytes;
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    return slot;
  }
  void release(Slot slot) noexcept override {
    std::lock_guard lock(mutex_);
    slots_.erase(slot.offset);
    used_bytes_ -= slot.bytes;
  }
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    std::memcpy(at(slot) + offset, from, bytes);
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    std::memcpy(to, at(slot) + offset, bytes);
  }
  std::size_t used_bytes() const override {
    std::lock_guard lock(mutex_);
    return used_bytes_;
  }
  std::size_t peak_bytes() const override {
    std::lock_guard lock(mutex_);
    return peak_bytes_;
  }
  std::size_t budget_bytes() const override { return budget_bytes_; }
  std::vector<std::string> notices() const override { return {}; }

 private:
  char* at(Slot slot) {
    std::lock_guard lock(mutex_);
    return slots_.at(slot.offset).data();
  }

  const std::size_t budget_bytes_;
  mutable std::mutex mutex_;
  std::size_t used_bytes_ = 0;
  std::size_t peak_bytes_ = 0;
  std::uint64_t next_offset_ = 0;
  std::map<std::uint64_t, std::vector<char>> slots_;
};

}  // namespace swapmem::test
