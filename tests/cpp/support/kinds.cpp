#include "support/kinds.h"

#include <cstdlib>

#include "core/size_class.h"
#include "cuda/cuda_device.h"
#include "host/checksum_store.h"
#include "host/file_store.h"
#include "host/host_device.h"
#include "host/host_link.h"
#include "host/pinned_store.h"
#include "host/tiered_store.h"
#include "support/blind_device.h"
#include "support/memory_store.h"

namespace swapmem::test {

namespace {

constexpr std::size_t region_bytes = std::size_t{8} << 30;  // of addresses
constexpr std::size_t slab_bytes = std::size_t{1} << 20;

// Pinned memory in front of a file. Its buffers come on top of what can be reserved.
std::unique_ptr<Store> tiered(std::size_t bytes, std::size_t pinned_bytes) {
  const auto link = std::make_shared<HostLink>();
  const std::size_t file_bytes = bytes + TieredStore::buffers_bytes(pinned_bytes) - pinned_bytes;
  return std::make_unique<TieredStore>(
      link, std::make_unique<PinnedStore>(link, pinned_bytes, slab_bytes),
      std::make_unique<FileStore>(test_directory(), file_bytes, false));
}

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

const std::vector<StoreKind>& all_stores() {
  static const std::vector<StoreKind> all = [] {
    std::vector<StoreKind> kinds = stores();
    kinds.push_back({"pinned", [](std::size_t bytes) {
                       return std::make_unique<PinnedStore>(std::make_shared<HostLink>(), bytes,
                                                            slab_bytes);
                     }});
    kinds.push_back({"tiered", [](std::size_t bytes) { return tiered(bytes, bytes / 2); }});
    kinds.push_back(
        {"tiered_small", [](std::size_t bytes) { return tiered(bytes, 16 * page_bytes); }});
    return kinds;
  }();
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
