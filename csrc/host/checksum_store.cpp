#include "host/checksum_store.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "core/errors.h"
#include "core/size_class.h"

namespace swapmem {

namespace {

// Four independent multiply-and-rotate lanes over 64-bit words: several GB/s, and any single
// changed word changes the sum (each step is a bijection of its lane for a given word).
std::uint64_t checksum(const void* data, std::size_t bytes) {
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15u;
  std::uint64_t lanes[4] = {1, 2, 3, 4};
  const char* p = static_cast<const char*>(data);
  for (std::size_t i = 0; i < bytes; i += 32) {  // sizes are multiples of a page
    std::uint64_t words[4];
    std::memcpy(words, p + i, sizeof words);
    for (int lane = 0; lane < 4; ++lane) {
      const std::uint64_t x = (lanes[lane] ^ words[lane]) * odd;
      lanes[lane] = (x << 31) | (x >> 33);
    }
  }
  std::uint64_t sum = bytes;
  for (const std::uint64_t lane : lanes) sum = (sum ^ lane) * odd + (sum >> 29);
  return sum;
}

}  // namespace

// Sums of released slots may stay: a slot is written before it is read again, from its start on.
void ChecksumStore::release(Slot slot) noexcept {
  inner_->release(slot);
}

void ChecksumStore::write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) {
  const Sum sum{bytes, checksum(from, bytes)};
  inner_->write(slot, offset, from, bytes);
  std::lock_guard lock(mutex_);
  sums_[slot.offset + offset] = sum;
}

void ChecksumStore::read(Slot slot, std::size_t offset, void* to, std::size_t bytes) {
  inner_->read(slot, offset, to, bytes);
  Sum sum{};
  {
    std::lock_guard lock(mutex_);
    const auto found = sums_.find(slot.offset + offset);
    if (found == sums_.end() || found->second.bytes != bytes) return;
    sum = found->second;
  }
  if (checksum(to, bytes) != sum.value) {
    throw StoreError("the store returned other bytes than were written (" + std::to_string(bytes) +
                         " bytes at " + std::to_string(slot.offset + offset) + ")",
                     EIO);
  }
}

}  // namespace swapmem
