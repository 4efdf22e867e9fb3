#include "bindings/cuda_engine.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/cuda_runtime.h"
#include "bindings/make_engine.h"
#include "cuda/context.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_link.h"
#include "cuda/driver.h"
#include "cuda/handles.h"
#include "host/checksum_store.h"
#include "host/file_store.h"
#include "host/pinned_store.h"
#include "host/tiered_store.h"

namespace py = pybind11;
using namespace py::literals;

namespace swapmem {

namespace {

py::dict describe(const cuda::Driver& driver, int ordinal) {
  cuda::CUdevice device = 0;
  cuda::check(driver.cuDeviceGet(&device, ordinal), "cuDeviceGet");
  std::array<char, 256> name{};
  cuda::check(driver.cuDeviceGetName(name.data(), name.size(), device), "cuDeviceGetName");
  std::size_t memory_bytes = 0;
  cuda::check(driver.cuDeviceTotalMem(&memory_bytes, device), "cuDeviceTotalMem");
  int vmm = 0;
  cuda::check(driver.cuDeviceGetAttribute(
                  &vmm, cuda::CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device),
              "cuDeviceGetAttribute");
  const std::size_t granularity_bytes = vmm != 0 ? cuda::granularity_bytes(driver, ordinal) : 0;
  return py::dict("ordinal"_a = ordinal, "name"_a = name.data(), "memory_bytes"_a = memory_bytes,
                  "granularity_bytes"_a = granularity_bytes, "vmm"_a = vmm != 0);
}

py::list cuda_devices() {
  const cuda::Driver& driver = cuda::driver();
  py::list devices;
  for (int ordinal = 0; ordinal < driver.device_count(); ++ordinal) {
    devices.append(describe(driver, ordinal));
  }
  return devices;
}

// Free bytes and all bytes. Where nothing else of the process uses the device, this starts it.
std::pair<std::size_t, std::size_t> cuda_memory(int ordinal) {
  const cuda::Context context(ordinal);
  const cuda::Context::Scope scope(context);
  std::pair<std::size_t, std::size_t> memory;
  cuda::check(context.driver().cuMemGetInfo(&memory.first, &memory.second), "cuMemGetInfo");
  return memory;
}

std::shared_ptr<Runtime> cuda_engine(int ordinal, std::size_t budget_bytes, std::size_t host_bytes,
                                     const std::optional<std::string>& spill_dir,
                                     std::size_t spill_bytes, bool reserve_now, bool checksum,
                                     bool paranoid, std::size_t part_bytes) {
  auto device = std::make_unique<cuda::CudaDevice>(ordinal);
  const std::shared_ptr<Link> link = device->link();
  auto pinned = std::make_unique<PinnedStore>(link, host_bytes);
  std::unique_ptr<Store> store;
  if (spill_dir) {
    std::unique_ptr<Store> file = std::make_unique<FileStore>(*spill_dir, spill_bytes, reserve_now);
    if (checksum) file = std::make_unique<ChecksumStore>(std::move(file));
    store = std::make_unique<TieredStore>(link, std::move(pinned), std::move(file));
  } else {
    store = std::move(pinned);
  }
  return std::make_shared<CudaRuntime>(make_engine(std::move(device), std::move(store), paranoid,
                                                   {.budget_bytes = budget_bytes,
                                                    .workers = cuda::link_workers,
                                                    .chunk_bytes = cuda::link_chunk_bytes,
                                                    .part_bytes = part_bytes}));
}

}  // namespace

void bind_cuda_engine(py::module_& module) {
  module.attr("min_cuda_block_bytes") = min_cuda_block_bytes;
  module.attr("cuda_link_workers") = cuda::link_workers;
  module.attr("cuda_link_chunk_bytes") = cuda::link_chunk_bytes;
  module.def("cuda_devices", &cuda_devices);
  module.def("cuda_memory", &cuda_memory, py::call_guard<py::gil_scoped_release>(), "ordinal"_a);
  module.def("cuda_engine", &cuda_engine, py::call_guard<py::gil_scoped_release>(), "ordinal"_a,
             "budget_bytes"_a, "host_bytes"_a, "spill_dir"_a, "spill_bytes"_a, "reserve_now"_a,
             "checksum"_a, "paranoid"_a, "part_bytes"_a);
}

}  // namespace swapmem
