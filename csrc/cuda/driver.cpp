#include "cuda/driver.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

namespace swapmem::cuda {
namespace {

constexpr char default_library[] = "libcuda.so.1";

// Finds functions as they were in interface_version. Drivers before CUDA 12 cannot be asked for a
// version; their symbols carry it in their names.
class Symbols {
 public:
  explicit Symbols(void* library) : library_(library) {
    address_of_ = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress_v2"));
  }

  void* find(const char* name, const char* symbol) const {
    if (address_of_ != nullptr) {
      void* function = nullptr;
      auto status = CU_GET_PROC_ADDRESS_SUCCESS;
      const CUresult result = address_of_(name, &function, interface_version, 0, &status);
      if (result == CUDA_SUCCESS && status == CU_GET_PROC_ADDRESS_SUCCESS) return function;
      if (status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT) return nullptr;
    }
    return dlsym(library_, symbol);
  }

 private:
  void* library_;
  GetProcAddress address_of_;
};

std::string version_text(const Driver& driver) {
  int version = 0;
  if (driver.cuDriverGetVersion == nullptr || driver.cuDriverGetVersion(&version) != CUDA_SUCCESS) {
    return "of an unknown version";
  }
  return "for CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

Driver Driver::load(const char* library) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw DeviceError(std::string("no CUDA driver: ") + dlerror(), 0);

  const Symbols symbols(handle);
  Driver driver;
  std::vector<std::string> missing;
#define SWAPMEM_CUDA_FIND(name, symbol, parameters) \
  driver.name = reinterpret_cast<decltype(driver.name)>(symbols.find(#name, #symbol));
  SWAPMEM_CUDA_FUNCTIONS(SWAPMEM_CUDA_FIND)
  SWAPMEM_CUDA_NEW_FUNCTIONS(SWAPMEM_CUDA_FIND)
#undef SWAPMEM_CUDA_FIND
#define SWAPMEM_CUDA_MISSING(name, symbol, parameters) \
  if (driver.name == nullptr) missing.push_back(#name);
  SWAPMEM_CUDA_FUNCTIONS(SWAPMEM_CUDA_MISSING)
#undef SWAPMEM_CUDA_MISSING

  if (driver.cuInit == nullptr) {
    throw DeviceError(std::string(library) + " is no CUDA driver: it has no cuInit", 0);
  }
  if (!missing.empty()) {
    throw DeviceError(std::string("the CUDA driver ") + library + " " + version_text(driver) +
                          " is too old: virtual memory management needs CUDA 10.2 or newer (" +
                          joined(missing) + " missing)",
                      0);
  }

  driver.process_ = getpid();
  const CUresult result = driver.cuInit(0);
  if (result != CUDA_SUCCESS && result != CUDA_ERROR_NO_DEVICE) driver.fail(result, "cuInit");
  if (result == CUDA_ERROR_NO_DEVICE || driver.device_count() == 0) {
    throw DeviceError(std::string("no CUDA device: the driver ") + library + " finds none (" +
                          driver.describe(CUDA_ERROR_NO_DEVICE) + ")",
                      CUDA_ERROR_NO_DEVICE);
  }
  return driver;
}

int Driver::device_count() const {
  int count = 0;
  check(cuDeviceGetCount(&count), "cuDeviceGetCount");
  return count;
}

CUdevice Driver::device(int ordinal) const {
  const int count = device_count();
  if (ordinal < 0 || ordinal >= count) {
    throw DeviceError("no CUDA device " + std::to_string(ordinal) + ": there are " +
                          std::to_string(count) + ", counted from 0",
                      CUDA_ERROR_INVALID_DEVICE);
  }
  CUdevice device = 0;
  check(cuDeviceGet(&device, ordinal), "cuDeviceGet");
  int supported = 0;
  check(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                             device),
        "cuDeviceGetAttribute");
  if (supported == 0) {
    throw DeviceError("CUDA device " + std::to_string(ordinal) +
                          " has no virtual memory management, without which arrays cannot keep "
                          "their addresses",
                      CUDA_ERROR_NOT_SUPPORTED);
  }
  return device;
}

std::string Driver::describe(CUresult result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr) name = "CUDA error";
  if (cuGetErrorString(result, &text) != CUDA_SUCCESS || text == nullptr) text = "no description";
  return std::string(name) + " (" + std::to_string(static_cast<int>(result)) + "): " + text;
}

void Driver::fail(CUresult result, const std::string& call) const {
  std::string what = call + ": " + describe(result);
  if (process_ != 0 && process_ != getpid()) {
    what +=
        "; the driver was initialised before this process was forked, and a forked process "
        "cannot use it";
  }
  throw DeviceError(what, result);
}

const Driver& driver() {
  // A library that could not be loaded is tried again at the next call. Kept to the end of the
  // process: objects with static lifetime may still free what they hold.
  static const Driver& loaded = *[] {
    const char* chosen = std::getenv("SWAPMEM_CUDA_DRIVER");
    return new Driver(Driver::load(chosen != nullptr && *chosen ? chosen : default_library));
  }();
  return loaded;
}

}  // namespace swapmem::cuda
