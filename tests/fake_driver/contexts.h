// Devices, their primary contexts, and which of them each host thread uses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "fake_driver/fake_driver.h"

namespace fake {

class World;

struct Context {
  int device = 0;
  int retained = 0;
  swapmem::cuda::CUresult broken = swapmem::cuda::CUDA_SUCCESS;  // what every call gets from now on
};

class Contexts {
 public:
  using CUcontext = swapmem::cuda::CUcontext;

  explicit Contexts(World& world) : world_(world) {}

  bool device(int ordinal) const { return ordinal >= 0 && ordinal < device_count; }
  CUcontext retain(int device);
  // Whether the last one of the device let go.
  swapmem::cuda::CUresult release(int device, CUcontext* ended);
  CUcontext primary(int device) const;  // null if nobody retains it
  Context* find(CUcontext context);
  std::size_t retained() const;

  // Of the calling thread.
  std::vector<CUcontext>& stack();
  CUcontext current() { return stack().empty() ? nullptr : stack().back(); }

  int device_count = 1;
  std::size_t memory_bytes = std::size_t{8} << 30;
  int version = 13000;
  bool virtual_memory = true;
  bool initialised = false;

 private:
  World& world_;
  std::map<CUcontext, Context> contexts_;
  std::uintptr_t next_ = 0xC0000000;  // never used twice: what is gone can be told
};

}  // namespace fake
