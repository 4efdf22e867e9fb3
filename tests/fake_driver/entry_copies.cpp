// Copies, between the device and the host and within the device.
#include <cstring>
#include <memory>
#include <string>

#include "fake_driver/entry.h"

namespace fake {
namespace {

void* pointer(CUdeviceptr address) {
  return reinterpret_cast<void*>(address);
}

CUdeviceptr address(const void* pointer) {
  return reinterpret_cast<CUdeviceptr>(pointer);
}

CUresult bad_device_range(World& world, const char* name, const Range& range, int device) {
  if (world.device_memory.accessible(range, device)) return CUDA_SUCCESS;
  return world.reports.misuse(std::string(name) + ": " + std::to_string(range.bytes) +
                              " bytes at " + hex(range.address) + " of device " +
                              std::to_string(device) + " cannot be used so");
}

struct Copy {
  const char* name;
  CUdeviceptr to;
  CUdeviceptr from;
  std::size_t bytes;
};

// A copy between the device and the host. If it is not waited for, the host's memory has to be
// registered.
CUresult over_link(const Copy& copy, bool to_host, CUstream handle, bool wait) {
  queue_delay();
  return enter(copy.name, Needs::context, [&](World& world, Lock& lock) {
    std::shared_ptr<Stream> stream;
    const CUresult unusable = usable(world, handle, copy.name, &stream);
    if (unusable != CUDA_SUCCESS || copy.bytes == 0) return unusable;

    Range to{copy.to, copy.bytes, true, wait && to_host};
    Range from{copy.from, copy.bytes, false, wait && !to_host};
    const Range& of_host = to_host ? to : from;
    const CUresult bad = bad_device_range(world, copy.name, to_host ? from : to, stream->device);
    if (bad != CUDA_SUCCESS) return bad;
    if (!wait && world.host_memory.find(of_host.address, of_host.bytes) == nullptr) {
      world.reports.add(FAKE_PAGEABLE, std::string(copy.name) + ": " + std::to_string(copy.bytes) +
                                           " bytes at " + hex(of_host.address) +
                                           " are not registered");
      return CUDA_ERROR_INVALID_VALUE;
    }

    auto work = std::make_shared<Work>();
    work->name = copy.name;
    work->ranges = {to, from};
    work->body = [copy] { std::memcpy(pointer(copy.to), pointer(copy.from), copy.bytes); };
    const FakeRates& rates = world.time.rates;
    work->cost_seconds = world.time.copy_seconds(static_cast<double>(copy.bytes),
                                                 to_host ? rates.to_host : rates.to_device);
    work->line = world.time.line(to_host);
    world.streams.give(*stream, work);
    if (!wait) return CUDA_SUCCESS;
    world.streams.wait(work, lock);
    return world.contexts.find(stream->context)->broken;
  });
}

// Work that stays within the device.
template <typename Body>
CUresult within(const char* name, CUstream handle, const std::vector<Range>& ranges, Body body) {
  return enter(name, Needs::context, [&](World& world, Lock&) {
    std::shared_ptr<Stream> stream;
    const CUresult unusable = usable(world, handle, name, &stream);
    if (unusable != CUDA_SUCCESS || ranges.front().bytes == 0) return unusable;
    for (const Range& range : ranges) {
      const CUresult bad = bad_device_range(world, name, range, stream->device);
      if (bad != CUDA_SUCCESS) return bad;
    }
    auto work = std::make_shared<Work>();
    work->name = name;
    work->ranges = ranges;
    work->body = body;
    work->cost_seconds = world.time.copy_seconds(static_cast<double>(ranges.front().bytes),
                                                 world.time.rates.within_device);
    world.streams.give(*stream, work);
    return CUDA_SUCCESS;
  });
}

}  // namespace

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes) {
  return over_link({"cuMemcpyDtoH", address(to), from, bytes}, true, nullptr, true);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes) {
  return over_link({"cuMemcpyHtoD", to, address(from), bytes}, false, nullptr, true);
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  return over_link({"cuMemcpyDtoHAsync", address(to), from, bytes}, true, stream, false);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes,
                              CUstream stream) {
  return over_link({"cuMemcpyHtoDAsync", to, address(from), bytes}, false, stream, false);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes,
                              CUstream stream) {
  return within("cuMemcpyDtoDAsync", stream, {{to, bytes, true}, {from, bytes, false}},
                [=] { std::memmove(pointer(to), pointer(from), bytes); });
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream) {
  return within("cuMemsetD8Async", stream, {{to, bytes, true}},
                [=] { std::memset(pointer(to), value, bytes); });
}

}  // namespace fake
