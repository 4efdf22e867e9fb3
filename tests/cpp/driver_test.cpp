// The table of the driver's functions: where it comes from, and what is said when it cannot.
#include "cuda/driver.h"

#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "check.h"
#include "fake_driver/fake_driver.h"
#include "support/process.h"

namespace {

using namespace swapmem;
using cuda::Driver;

struct Fresh {
  Fresh() { fake_reset(); }
  ~Fresh() { fake_reset(); }
};

Driver load() {
  return Driver::load(std::getenv("SWAPMEM_CUDA_DRIVER"));
}

// What the error says, with its code.
std::string error_of(const std::function<void()>& body, int code) {
  try {
    body();
  } catch (const DeviceError& error) {
    CHECK_EQUAL(error.code, code);
    return error.what();
  }
  return "nothing was thrown";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(driver, is_found_and_initialised) {
  Fresh fresh;
  const Driver driver = load();
  CHECK_EQUAL(driver.device_count(), 1);
  CHECK_EQUAL(driver.device(0), 0);
  CHECK(driver.cuStreamGetId != nullptr);
}

TEST(driver, names_a_library_that_is_not_there) {
  const std::string what = error_of([] { Driver::load("libno-such-cuda.so.1"); }, 0);
  CHECK(has(what, "no CUDA driver"));
  CHECK(has(what, "libno-such-cuda.so.1"));
}

TEST(driver, refuses_a_library_that_is_no_driver) {
  CHECK(has(error_of([] { Driver::load("libm.so.6"); }, 0), "libm.so.6 is no CUDA driver"));
}

TEST(driver, says_that_a_driver_is_too_old_for_virtual_memory_management) {
  Fresh fresh;
  fake_hide("cuMemCreate");
  fake_hide("cuMemMap");
  fake_set_version(10010);
  const std::string what = error_of([] { load(); }, 0);
  CHECK(has(what, "for CUDA 10.1 is too old"));
  CHECK(has(what, "cuMemCreate, cuMemMap missing"));
}

TEST(driver, does_without_what_only_new_drivers_have) {
  Fresh fresh;
  fake_hide("cuStreamGetId");
  CHECK(load().cuStreamGetId == nullptr);
}

TEST(driver, falls_back_to_symbols_where_the_driver_cannot_be_asked) {
  Fresh fresh;
  fake_fail("cuGetProcAddress", 1, cuda::CUDA_ERROR_UNKNOWN, 1);
  const Driver driver = load();
  CHECK_EQUAL(driver.device_count(), 1);
  CHECK(fake_calls("cuGetProcAddress") > 0);
}

TEST(driver, says_that_there_is_no_device) {
  Fresh fresh;
  fake_set_devices(0, 0);
  const std::string what = error_of([] { load(); }, cuda::CUDA_ERROR_NO_DEVICE);
  CHECK(has(what, "no CUDA device"));
}

TEST(driver, fails_as_initialisation_does) {
  Fresh fresh;
  fake_fail("cuInit", 1, cuda::CUDA_ERROR_UNKNOWN, 0);
  const std::string what = error_of([] { load(); }, cuda::CUDA_ERROR_UNKNOWN);
  CHECK(has(what, "cuInit: CUDA_ERROR_UNKNOWN (999): unknown error"));
}

TEST(driver, names_the_number_of_devices_when_one_does_not_exist) {
  Fresh fresh;
  fake_set_devices(2, 1 << 30);
  const Driver driver = load();
  CHECK_EQUAL(driver.device(1), 1);
  for (const int ordinal : {2, -1}) {
    const std::string what =
        error_of([&] { driver.device(ordinal); }, cuda::CUDA_ERROR_INVALID_DEVICE);
    CHECK(has(what, "no CUDA device " + std::to_string(ordinal) + ": there are 2"));
  }
}

TEST(driver, refuses_a_device_without_virtual_memory_management) {
  Fresh fresh;
  fake_set_virtual_memory(0);
  const Driver driver = load();
  const std::string what = error_of([&] { driver.device(0); }, cuda::CUDA_ERROR_NOT_SUPPORTED);
  CHECK(has(what, "no virtual memory management"));
}

TEST(driver, errors_carry_name_text_and_code) {
  Fresh fresh;
  const Driver& driver = cuda::driver();
  cuda::check(cuda::CUDA_SUCCESS, "cuMemMap");
  CHECK_EQUAL(error_of([] { cuda::check(cuda::CUDA_ERROR_OUT_OF_MEMORY, "cuMemCreate"); },
                       cuda::CUDA_ERROR_OUT_OF_MEMORY),
              std::string("cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"));
  CHECK(has(driver.describe(static_cast<cuda::CUresult>(12345)), "(12345)"));
}

TEST(driver, says_that_a_forked_child_cannot_use_it) {
  Fresh fresh;
  const Driver& driver = cuda::driver();
  const test::Ended child = test::in_fork([&] {
    int count = 0;
    const cuda::CUresult result = driver.cuDeviceGetCount(&count);
    if (result != cuda::CUDA_ERROR_NOT_INITIALIZED) return 1;
    const std::string what = error_of([&] { driver.check(result, "cuDeviceGetCount"); }, result);
    return has(what, "forked") ? 0 : 2;
  });
  CHECK(child.exited(0));
}

TEST(driver, is_tried_again_after_it_could_not_be_loaded) {
  const test::Ended child = test::in_new_process("child/driver_is_tried_again");
  CHECK(child.exited(0));
}

TEST(child, driver_is_tried_again) {
  const std::string library = std::getenv("SWAPMEM_CUDA_DRIVER");
  setenv("SWAPMEM_CUDA_DRIVER", "libno-such-cuda.so.1", 1);
  CHECK_THROWS(DeviceError, cuda::driver());
  CHECK_THROWS(DeviceError, cuda::driver());
  setenv("SWAPMEM_CUDA_DRIVER", library.c_str(), 1);
  CHECK_EQUAL(cuda::driver().device_count(), 1);
}

}  // namespace
