// A store around another that remembers a checksum of every chunk written and verifies it when the
// chunk is read: a disk that returns other bytes becomes a StoreError (EIO), not a wrong result.
//
// The engine reads in the chunks it wrote; a chunk read in other pieces is passed on unverified.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/store.h"

namespace swapmem {

class ChecksumStore : public Store {
 public:
  explicit ChecksumStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}

  Slot reserve(std::size_t bytes) override { return inner_->reserve(bytes); }
  void release(Slot slot) noexcept override;
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override;
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override;
  std::size_t used_bytes() const override { return inner_->used_bytes(); }
  std::size_t peak_bytes() const override { return inner_->peak_bytes(); }
  std::size_t budget_bytes() const override { return inner_->budget_bytes(); }
  std::vector<std::string> notices() const override { return inner_->notices(); }

 private:
  struct Sum {
    std::size_t bytes;
    std::uint64_t value;
  };
  const std::unique_ptr<Store> inner_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Sum> sums_;  // by position in the store
};

}  // namespace swapmem
