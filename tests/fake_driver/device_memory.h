// Reservations, handles and mappings, as the documentation of virtual memory management has them,
// and what cuMemAlloc gives, which is all three in one.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "fake_driver/fake_driver.h"
#include "fake_driver/physical.h"
#include "fake_driver/piece.h"
#include "fake_driver/work.h"

namespace fake {

class World;

struct Handle {
  int device = 0;
  std::size_t bytes = 0;
  off_t at = 0;
  std::size_t mappings = 0;
  bool released = false;
  double ready_seconds = 0;  // when it came to be as it is
  Shadow shadow;
};

struct Mapping {
  std::size_t bytes = 0;
  std::shared_ptr<Handle> handle;
  std::map<int, swapmem::cuda::CUmemAccess_flags> access;  // by device
  Uses uses;
  double ready_seconds = 0;
  std::size_t asked_bytes = 0;  // of cuMemAlloc; 0: made by cuMemMap
  bool managed = false;
};

class DeviceMemory {
 public:
  using CUdeviceptr = swapmem::cuda::CUdeviceptr;
  using CUresult = swapmem::cuda::CUresult;
  using Id = swapmem::cuda::CUmemGenericAllocationHandle;

  explicit DeviceMemory(World& world) : world_(world) {}
  ~DeviceMemory();

  CUresult reserve(CUdeviceptr* address, std::size_t bytes, std::size_t alignment);
  CUresult free_reservation(CUdeviceptr address, std::size_t bytes);
  CUresult create(Id* id, std::size_t bytes, int device);
  CUresult release(Id id);
  CUresult map(CUdeviceptr address, std::size_t bytes, std::size_t offset, Id id);
  CUresult unmap(CUdeviceptr address, std::size_t bytes);
  CUresult set_access(CUdeviceptr address, std::size_t bytes,
                      const swapmem::cuda::CUmemAccessDesc* desc, std::size_t count);
  CUresult allocate(CUdeviceptr* address, std::size_t bytes, int device, bool managed);
  CUresult free(CUdeviceptr address);

  // Whether all of it can be used so by the device.
  bool accessible(const Range& range, int device) const;
  void pieces(const Range& range, std::vector<Piece>& found);

  struct Found {
    CUdeviceptr address = 0;  // of the mapping, or the reservation if nothing is mapped
    std::size_t bytes = 0;
    const Mapping* mapping = nullptr;
  };
  Found find(CUdeviceptr address) const;
  std::size_t used_bytes(int device) const;
  void count(FakeCounts* counts) const;

  bool garbage = true;
  std::size_t granularity_bytes = std::size_t{2} << 20;

 private:
  using Mappings = std::map<CUdeviceptr, Mapping>;

  // The mappings that make up [address, address + bytes) exactly; none if they do not.
  std::vector<Mappings::iterator> whole(CUdeviceptr address, std::size_t bytes);
  void take_away(Mappings::iterator mapping);
  void give_back(Handle& handle);
  static int protection(const Mapping& mapping);
  bool aligned(std::size_t value) const { return value % granularity_bytes == 0; }

  World& world_;
  Physical physical_;
  Id next_id_ = 0x1000;
  std::map<Id, std::shared_ptr<Handle>> handles_;
  std::map<CUdeviceptr, std::size_t> reservations_;
  Mappings mappings_;
  std::map<int, std::size_t> used_bytes_;  // of handles that are not yet gone, by device
};

}  // namespace fake
