// A GPU's memory as the device: one reserved range of addresses, and physical handles that are
// mapped behind them.
//
// Memory comes in frames (handles of 16 MiB, behind addresses that are multiples of it) and pages
// (of the granularity, 2 MiB). The cost of mapping is one of handles, not of bytes.
//
// Beyond core/device.h:
// - A moved frame or page has its new place at once and is mapped there by commit or begin_fill.
//   Its old mapping goes with a later call, when `last_use` has passed: to unmap takes long, and
//   nobody waits for it but who needs the place again. Until then the memory may be mapped twice.
//   Work at the new place is ordered after the fences, so that the two are never used at once.
// - Memory that is decommitted exists until its last use has passed. Memory that is new then waits
//   for it, if there would else be more than was ever in use at once (see handles.h).
// - A call that takes a part of a frame takes the frame's memory from the other part, too, whose
//   owner commits it again before it is used.
// - move, decommit and finish_fill do not fail because the driver refuses an unmap: it is tried
//   again when the place is needed, by a call that can say so.
// - New memory does not read as zeros.
//
// The context is the primary one of the ordinal; what is current in the calling thread stays so.
// No lock is held across a wait or a call of the driver.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "core/device.h"
#include "core/link.h"
#include "cuda/context.h"
#include "cuda/handles.h"
#include "cuda/streams.h"

namespace swapmem::cuda {

class CudaDevice : public Device {
 public:
  // Reserves addresses, not memory: as many as the driver gives, at most `address_bytes`.
  explicit CudaDevice(int ordinal, std::size_t frame_bytes = std::size_t{16} << 20,
                      std::size_t address_bytes = std::size_t{4} << 40);
  ~CudaDevice() override;  // waits for all work of the context
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  Span region() const override { return region_; }
  std::size_t unit_bytes() const override { return page_bytes_; }
  std::size_t frame_bytes() const override { return frame_bytes_; }
  void commit(Span span) override;
  void commit_staging(Span span) override;
  void decommit(Span span, const Fences& last_use) override;
  void move(Address from, Address to, std::size_t bytes, const Fences& last_use) override;
  void protect(Span, Access) override {}  // access is the whole device's: nothing to refuse
  bool sees_writes() const override { return false; }
  bool sees_touches() const override { return false; }
  bool commits_zeros() const override { return false; }
  Fence fence() override { return streams_->fence(); }
  Fence late_fence() override { return streams_->late_fence(); }
  void wait(Fence fence) override { streams_->wait(fence); }
  void order(Fence fence) override { streams_->order(fence); }
  Stamp stamp() noexcept override;
  double seconds_between(const Stamp& earlier, const Stamp& later) override;
  Address begin_fill(Span staging, Span block) override;
  void finish_fill(Span staging, Span block) override;
  std::size_t fill_step_bytes() const override { return frame_bytes_; }
  void tidy() noexcept override;
  void trim() override;  // waits for last uses

  // Copies to and from this device's memory. May outlive the device.
  std::unique_ptr<Link> link() const;

  struct Usage {
    std::size_t in_use_bytes;    // behind addresses
    std::size_t cached_bytes;    // kept for the next commit
    std::size_t existing_bytes;  // these, and what waits for its last use
  };
  Usage usage() const;

 private:
  // What is behind a page of addresses. All pages of a frame say the same.
  struct Page {
    Handle handle = 0;
    Unit unit = Unit::page;
    bool mapped = false;
    bool borrowed = false;  // mapped while it is filled; the memory is the staging block's
  };
  // A mapping, a handle, or both, that go once nothing uses them.
  struct Old {
    Address address;
    Unit unit;
    bool mapped;
    Handle handle;  // 0 if the memory is in use elsewhere
  };
  struct Leaving {
    Span span;            // of all parts
    bool memory = false;  // whether there is a handle
    Fences last_use;
    std::vector<Old> parts;      // of the thread that has taken it
    bool taken = true;           // a thread sees to it
    std::uint64_t asked_by = 0;  // the last tidying that asked whether it can go
  };
  using LeavingList = std::list<Leaving>;
  using Lock = std::unique_lock<std::mutex>;

  struct Place {
    Address address;
    Unit unit;
  };
  struct Mapping {
    Address address;
    Unit unit;
    Handle handle;
  };

  void reserve_addresses(std::size_t most_bytes);
  void check(Span span) const;
  void reached(Address end);

  // What is behind addresses.
  Page* page_at(Address address) const;
  Address frame_of(Address address) const { return address / frame_bytes_ * frame_bytes_; }
  void set(Place place, const Page& value);
  std::vector<Place> places(Span span) const;
  bool is_empty(Span span) const;

  // Handles behind addresses, not mapped yet.
  std::vector<Place> gaps(Span span) const;
  std::vector<Place> fill_gaps(Span span);
  void empty(const std::vector<Place>& filled) noexcept;
  std::size_t bytes_of(const std::vector<Place>& places) const;
  Handle new_handle(Unit unit);

  void map(const std::vector<Mapping>& mappings);
  void set_access(const std::vector<Mapping>& mappings);

  // What leaves.
  void leave(LeavingList& old);
  void put_off(LeavingList& old);
  LeavingList::iterator hand_over(LeavingList& old);
  void finish(LeavingList::iterator leaving, bool waiting);
  bool finish_if_passed(LeavingList::iterator leaving);
  void untake(LeavingList::iterator leaving);
  void finish_passed();
  void finish_all_passed();
  void finish_at(Span span);
  bool finish_one_with_memory();
  bool passed(const Fences& fences);

  const std::shared_ptr<Context> context_;
  const std::size_t page_bytes_;
  const std::size_t frame_bytes_;
  Span reservation_;                        // what cuMemAddressFree needs
  Span region_;                             // its part that starts at a frame
  const std::shared_ptr<Streams> streams_;  // the links', too
  Handles handles_;

  // By page of the region. Who owns a span owns its pages; no lock.
  struct Free {
    void operator()(Page* pages) const;
  };
  std::unique_ptr<Page[], Free> pages_;
  std::atomic<Address> used_end_;  // no page at or above it ever had memory

  std::mutex mutex_;  // of what follows
  std::condition_variable finished_;
  LeavingList leaving_;  // the longest waiting first
  std::uint64_t last_tidying_ = 0;
};

}  // namespace swapmem::cuda
