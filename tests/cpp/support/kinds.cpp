#include "support/kinds.h"

#include <cstdlib>

#include "cuda/cuda_device.h"
#include "host/checksum_store.h"
#include "host/file_store.h"
#include "host/host_device.h"
#include "support/blind_device.h"
#include "support/memory_store.h"

namespace swapmem::test {

namespace {

constexpr std::size_t region_bytes = std::size_t{8} << 30;  // of addresses

}  // namespace

std::string test_directory() {
  const char* given = std::getenv("SWAPMEM_TEST_DIR");
  return given != nullptr ? given : ".";
}

const std::vector<DeviceKind>& devices() {
  static const std::vector<DeviceKind> all{
      {"host", [] { return std::make_unique<HostDevice>(region_bytes); }},
      {"blind",
       [] { return std::make_unique<BlindDevice>(std::make_unique<HostDevice>(region_bytes)); }},
  };
  return all;
}

const std::vector<DeviceKind>& all_devices() {
  static const std::vector<DeviceKind> all = [] {
    std::vector<DeviceKind> kinds = devices();
    // On the fake driver, whose addresses tests can look at.
    kinds.push_back(
        {"cuda",
         [] { return std::make_unique<cuda::CudaDevice>(0, std::size_t{8} << 20, region_bytes); }});
    return kinds;
  }();
  return all;
}

const std::vector<StoreKind>& stores() {
  static const std::vector<StoreKind> all{
      {"memory", [](std::size_t bytes) { return std::make_unique<MemoryStore>(bytes); }},
      {"file",
       [](std::size_t bytes) {
         return std::make_unique<FileStore>(test_directory(), bytes, false);
       }},
      {"checksum",
       [](std::size_t bytes) {
         return std::make_unique<ChecksumStore>(
             std::make_unique<FileStore>(test_directory(), bytes, false));
       }},
  };
  return all;
}

const std::vector<Pair>& pairs() {
  static const std::vector<Pair> all = [] {
    std::vector<Pair> product;
    for (const DeviceKind& device : devices()) {
      for (const StoreKind& store : stores()) {
        product.push_back({device.name + "+" + store.name, device, store});
      }
    }
    return product;
  }();
  return all;
}

}  // namespace swapmem::test
