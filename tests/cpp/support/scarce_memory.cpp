#include "support/scarce_memory.h"

#include <cstdlib>
#include <new>

namespace {

thread_local std::uint64_t left = 0;  // until the one that fails; 0: none does
thread_local bool failed = false;

}  // namespace

void* operator new(std::size_t bytes) {
  if (left > 0 && --left == 0) {
    failed = true;
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace swapmem::test {

ScarceMemory::ScarceMemory(std::uint64_t nth) {
  failed = false;
  left = nth;
}

ScarceMemory::~ScarceMemory() {
  left = 0;
}

bool ScarceMemory::ran_out() const {
  return failed;
}

}  // namespace swapmem::test
