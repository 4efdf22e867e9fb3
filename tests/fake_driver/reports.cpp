#include "fake_driver/reports.h"

#include <cinttypes>
#include <cstdio>
#include <numeric>

namespace fake {
namespace {

constexpr std::size_t kept = 100;

const char* name(FakeReportKind kind) {
  switch (kind) {
    case FAKE_UNORDERED:
      return "unordered";
    case FAKE_MEMORY_IN_USE:
      return "memory in use";
    case FAKE_HOST_IN_USE:
      return "host memory in use";
    case FAKE_ILLEGAL_ADDRESS:
      return "illegal address";
    case FAKE_PAGEABLE:
      return "pageable";
    case FAKE_MISUSE:
      return "misuse";
  }
  return "?";
}

}  // namespace

std::string hex(unsigned long long address) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", address);
  return text;
}

void Reports::add(FakeReportKind kind, const std::string& text) {
  ++counts_[kind];
  if (first_.size() < kept) first_.push_back(std::string(name(kind)) + ": " + text);
}

swapmem::cuda::CUresult Reports::misuse(const std::string& text, swapmem::cuda::CUresult result) {
  add(FAKE_MISUSE, text);
  return result;
}

std::size_t Reports::count(int kind) const {
  if (kind != 0) return counts_.at(kind);
  return std::accumulate(counts_.begin(), counts_.end(), std::size_t{0});
}

std::string Reports::text() const {
  std::string all;
  for (const std::string& line : first_) all += line + "\n";
  const std::size_t more = count(0) - first_.size();
  if (more != 0) all += "and " + std::to_string(more) + " more\n";
  return all;
}

void Reports::clear() {
  *this = Reports();
}

}  // namespace fake
