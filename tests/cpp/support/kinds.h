// Every device and every store, for the contract suites and for the engine's. A
// new one joins by a line here.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/store.h"

namespace swapmem::test {

struct DeviceKind {
  std::string name;
  std::function<std::unique_ptr<Device>()> make;
};

struct StoreKind {
  std::string name;
  std::function<std::unique_ptr<Store>(std::size_t budget_bytes)> make;
};

struct Pair {
  std::string name;
  DeviceKind device;
  StoreKind store;
};

const std::vector<DeviceKind>& devices();      // of units of 4 KiB, for the engine's suites
const std::vector<DeviceKind>& all_devices();  // for the contract suite
const std::vector<StoreKind>& stores();        // for the engine's suites
const std::vector<StoreKind>& all_stores();    // for the contract suite
const std::vector<Pair>& pairs();              // devices() with stores()

// Where tests put their files: SWAPMEM_TEST_DIR, else the current directory.
std::string test_directory();

}  // namespace swapmem::test
