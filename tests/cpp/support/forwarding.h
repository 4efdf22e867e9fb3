// Wrappers that forward everything, so that a test's device or store overrides only what it
// changes.
#pragma once

#include <memory>
#include <utility>

#include "core/device.h"
#include "core/store.h"

namespace swapmem::test {

class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}

  Span region() const override { return inner_->region(); }
  std::size_t unit_bytes() const override { return inner_->unit_bytes(); }
  std::size_t frame_bytes() const override { return inner_->frame_bytes(); }
  void commit(Span span) override { inner_->commit(span); }
  bool commits_zeros() const override { return inner_->commits_zeros(); }
  void trim() override { inner_->trim(); }
  void commit_staging(Span span) override { inner_->commit_staging(span); }
  void decommit(Span span, const Fences& last_use) override { inner_->decommit(span, last_use); }
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override {
    inner_->move(from, to, bytes, last_use);
  }
  void protect(Span span, Access access) override { inner_->protect(span, access); }
  void watch(Span span) override { inner_->watch(span); }
  bool watches() const override { return inner_->watches(); }
  bool sees_writes() const override { return inner_->sees_writes(); }
  bool sees_touches() const override { return inner_->sees_touches(); }
  Fence fence() override { return inner_->fence(); }
  void wait(Fence fence) override { inner_->wait(fence); }
  void order(Fence fence) override { inner_->order(fence); }
  Stamp stamp() noexcept override { return inner_->stamp(); }
  double seconds_between(const Stamp& earlier, const Stamp& later) override {
    return inner_->seconds_between(earlier, later);
  }
  Address begin_fill(Span staging, Span block) override {
    return inner_->begin_fill(staging, block);
  }
  void finish_fill(Span staging, Span block) override { inner_->finish_fill(staging, block); }
  std::size_t fill_step_bytes() const override { return inner_->fill_step_bytes(); }
  void tidy() noexcept override { inner_->tidy(); }

 protected:
  const std::unique_ptr<Device> inner_;
};

class ForwardingStore : public Store {
 public:
  explicit ForwardingStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}

  Slot reserve(std::size_t bytes) override { return inner_->reserve(bytes); }
  void release(Slot slot) noexcept override { inner_->release(slot); }
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
    inner_->write(slot, offset, from, bytes);
  }
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    inner_->read(slot, offset, to, bytes);
  }
  void soon(Slot slot) noexcept override { inner_->soon(slot); }
  std::size_t trim() override { return inner_->trim(); }
  std::size_t used_bytes() const override { return inner_->used_bytes(); }
  std::size_t peak_bytes() const override { return inner_->peak_bytes(); }
  std::size_t budget_bytes() const override { return inner_->budget_bytes(); }
  std::vector<std::string> notices() const override { return inner_->notices(); }

 protected:
  const std::unique_ptr<Store> inner_;
};

}  // namespace swapmem::test
