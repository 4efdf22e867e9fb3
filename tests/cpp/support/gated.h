// A device and a store whose calls a test can hold, and that remember the order of transfers.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "support/forwarding.h"
#include "support/gate.h"

namespace swapmem::test {

class GatedDevice : public ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;

  Gate commits, decommits, moves, protects;

  void commit(Span span) override {
    commits.pass();
    inner_->commit(span);
  }
  void commit_staging(Span span) override {
    commits.pass();
    inner_->commit_staging(span);
  }
  void decommit(Span span, const Fences& last_use) override {
    decommits.pass();
    inner_->decommit(span, last_use);
  }
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override {
    moves.pass();
    inner_->move(from, to, bytes, last_use);
  }
  void protect(Span span, Access access) override {
    protects.pass();
    inner_->protect(span, access);
  }
};

class GatedStore : public ForwardingStore {
 public:
  struct Call {
    bool write;
    std::uint64_t slot;
    std::size_t offset;
  };

  using ForwardingStore::ForwardingStore;

  Gate reserves, writes, reads;

  Slot reserve(std::size_t bytes) override {
    reserves.pass();
    return inner_->reserve(bytes);
  }
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    note(true, slot, offset);
    writes.pass();
    inner_->write(slot, offset, from, bytes);
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    note(false, slot, offset);
    reads.pass();
    inner_->read(slot, offset, to, bytes);
  }

  std::vector<Call> calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  void note(bool write, Slot slot, std::size_t offset) {
    std::lock_guard lock(mutex_);
    calls_.push_back({write, slot.offset, offset});
  }

  mutable std::mutex mutex_;
  std::vector<Call> calls_;
};

}  // namespace swapmem::test
