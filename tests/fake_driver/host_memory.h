// Host memory that copies may use while the host does something else: registered or allocated so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "fake_driver/fake_driver.h"
#include "fake_driver/piece.h"
#include "fake_driver/work.h"

namespace fake {

class World;

struct Registration {
  std::size_t bytes = 0;
  bool allocated = false;  // by cuMemHostAlloc
  swapmem::cuda::CUcontext context = nullptr;
  double ready_seconds = 0;
  Shadow shadow;
  Uses uses;
};

class HostMemory {
 public:
  using CUresult = swapmem::cuda::CUresult;

  explicit HostMemory(World& world) : world_(world) {}
  ~HostMemory();

  CUresult add(void* host, std::size_t bytes);
  CUresult remove(void* host);
  CUresult allocate(void** host, std::size_t bytes);
  CUresult free(void* host);

  // The registration that has all of it; null if there is none.
  Registration* find(std::uintptr_t address, std::size_t bytes, std::uintptr_t* begin = nullptr);
  void pieces(const Range& range, std::vector<Piece>& found);
  // Whether there is memory at these addresses at all.
  static bool exists(std::uintptr_t address, std::size_t bytes);
  void count(FakeCounts* counts) const;
  // The context is gone, and what was registered with it; how many that was.
  std::size_t forget(swapmem::cuda::CUcontext context);

  std::size_t limit_bytes = SIZE_MAX;

 private:
  CUresult take(std::uintptr_t address, bool allocated, const char* call);

  World& world_;
  std::map<std::uintptr_t, Registration> registrations_;
  std::size_t bytes_ = 0;
};

}  // namespace fake
