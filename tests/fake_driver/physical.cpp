#include "fake_driver/physical.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <vector>

namespace fake {
namespace {

constexpr off_t file_bytes = off_t{1} << 42;
constexpr int no_memory = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

[[noreturn]] void failed(const char* call) {
  throw std::system_error(errno, std::generic_category(), call);
}

}  // namespace

Physical::Physical() : file_(memfd_create("fake device memory", MFD_CLOEXEC)) {
  if (file_ < 0 || ftruncate(file_, file_bytes) != 0) failed("memfd_create");
}

Physical::~Physical() {
  close(file_);
}

off_t Physical::allocate(std::size_t bytes, bool garbage) {
  off_t at = end_;
  const auto found = free_.find(bytes);
  if (found != free_.end()) {
    at = found->second;
    free_.erase(found);
  } else {
    end_ += static_cast<off_t>(bytes);
  }
  if (!garbage) return at;
  static const std::vector<unsigned char> pattern(std::size_t{1} << 20, 0xCD);
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t part = std::min(bytes - done, pattern.size());
    const ssize_t written = pwrite(file_, pattern.data(), part, at + static_cast<off_t>(done));
    if (written <= 0) failed("pwrite");
    done += static_cast<std::size_t>(written);
  }
  return at;
}

void Physical::release(off_t at, std::size_t bytes) {
  fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, static_cast<off_t>(bytes));
  free_.emplace(bytes, at);
}

void Physical::map(void* address, std::size_t bytes, off_t at, int protection) {
  if (mmap(address, bytes, protection, MAP_SHARED | MAP_FIXED, file_, at) == MAP_FAILED) {
    failed("mmap");
  }
  madvise(address, bytes, MADV_DONTFORK);
}

void* Physical::reserve(std::size_t bytes, std::size_t alignment) {
  const std::size_t room = bytes + alignment;
  void* found = mmap(nullptr, room, PROT_NONE, no_memory, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<std::uintptr_t>(found);
  const std::uintptr_t aligned = (begin + alignment - 1) / alignment * alignment;
  if (aligned != begin) munmap(found, aligned - begin);
  const std::uintptr_t rest = begin + room - (aligned + bytes);
  if (rest != 0) munmap(reinterpret_cast<void*>(aligned + bytes), rest);
  void* address = reinterpret_cast<void*>(aligned);
  madvise(address, bytes, MADV_DONTFORK);
  return address;
}

void Physical::hide(void* address, std::size_t bytes) {
  if (mmap(address, bytes, PROT_NONE, no_memory | MAP_FIXED, -1, 0) == MAP_FAILED) failed("mmap");
  madvise(address, bytes, MADV_DONTFORK);
}

}  // namespace fake
