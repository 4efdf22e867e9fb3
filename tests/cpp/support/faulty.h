// A device and a store whose Nth call fails, once or from then on for ever, until they are
// repaired. They fail before the call has any effect, as the contracts of both demand.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>

#include "core/errors.h"
#include "support/forwarding.h"

namespace swapmem::test {

class Faults {
 public:
  Faults(std::size_t nth, bool for_ever) : nth_(nth), for_ever_(for_ever) {}

  bool fails() {
    if (repaired_) return false;
    const std::size_t call = ++calls_;
    const bool fault = call == nth_ || (for_ever_ && call > nth_);
    if (fault) reached_ = true;
    return fault;
  }
  bool reached() const { return reached_; }
  void repair() { repaired_ = true; }

 private:
  const std::size_t nth_;
  const bool for_ever_;
  std::atomic<std::size_t> calls_{0};
  std::atomic<bool> reached_{false};
  std::atomic<bool> repaired_{false};
};

class FaultyDevice : public ForwardingDevice {
 public:
  FaultyDevice(std::unique_ptr<Device> inner, Faults& faults)
      : ForwardingDevice(std::move(inner)), faults_(faults) {}

  void commit(Span span) override {
    ask();
    inner_->commit(span);
  }
  void commit_staging(Span span) override {
    ask();
    inner_->commit_staging(span);
  }
  void decommit(Span span, const Fences& last_use) override {
    ask();
    inner_->decommit(span, last_use);
  }
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override {
    ask();
    inner_->move(from, to, bytes, last_use);
  }
  void protect(Span span, Access access) override {
    ask();
    inner_->protect(span, access);
  }
  Address begin_fill(Span staging, Span block) override {
    ask();
    return inner_->begin_fill(staging, block);
  }
  void finish_fill(Span staging, Span block) override {
    ask();
    inner_->finish_fill(staging, block);
  }

 private:
  void ask() {
    if (faults_.fails()) throw DeviceError("injected device fault", ENOMEM);
  }
  Faults& faults_;
};

class FaultyStore : public ForwardingStore {
 public:
  FaultyStore(std::unique_ptr<Store> inner, Faults& faults)
      : ForwardingStore(std::move(inner)), faults_(faults) {}

  Slot reserve(std::size_t bytes) override {
    ask(ENOSPC);
    return inner_->reserve(bytes);
  }
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    ask(EIO);
    inner_->write(slot, offset, from, bytes);
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    ask(EIO);
    inner_->read(slot, offset, to, bytes);
  }

 private:
  void ask(int code) {
    if (faults_.fails()) throw StoreError("injected store fault", code);
  }
  Faults& faults_;
};

// A store that takes everything and whose Nth read fails.
class UnreadableStore : public ForwardingStore {
 public:
  UnreadableStore(std::unique_ptr<Store> inner, Faults& faults)
      : ForwardingStore(std::move(inner)), faults_(faults) {}

  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    if (faults_.fails()) throw StoreError("injected", EIO);
    inner_->read(slot, offset, to, bytes);
  }

 private:
  Faults& faults_;
};

}  // namespace swapmem::test
