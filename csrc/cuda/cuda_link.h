// Copies between a GPU's memory and pinned host memory, on two streams of their own: one for each
// direction, as the hardware has a copy engine for each.
//
// A call queues its copy and a fence, and sleeps until the fence has passed; several workers keep
// an engine busy. What copies is in the order of the calls, so that a large copy should come in
// chunks. Nothing of this waits for other streams; they wait for it only where they are told to.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <shared_mutex>

#include "core/device.h"
#include "core/link.h"
#include "cuda/context.h"
#include "cuda/streams.h"

namespace swapmem::cuda {

// How many copies of how many bytes are asked for at once, half of them each way where both are
// busy. So much is queued that the link stays busy while a worker that slept comes to itself and
// while the driver maps memory for others (tests/cpp/virtual_time_test.cpp measures it); and so
// little that an urgent copy waits for 32 MiB at most.
inline constexpr std::size_t link_workers = 8;
inline constexpr std::size_t link_chunk_bytes = std::size_t{4} << 20;

class CudaLink : public Link {
 public:
  CudaLink(std::shared_ptr<const Context> context, std::shared_ptr<Streams> streams);
  ~CudaLink() override;  // what is still pinned is unpinned
  CudaLink(const CudaLink&) = delete;
  CudaLink& operator=(const CudaLink&) = delete;

  void pin(void* host, std::size_t bytes) override;
  void unpin(void* host, std::size_t bytes) noexcept override;
  // The host memory has to lie in what was pinned in one piece.
  void copy_out(void* host, const void* device, std::size_t bytes) override;
  void copy_in(void* device, const void* host, std::size_t bytes,
               const Queued& queued = {}) override;

 private:
  void check_pinned(const void* host, std::size_t bytes) const;
  void finish(CUstream stream, const Queued& queued);

  const std::shared_ptr<const Context> context_;
  const std::shared_ptr<Streams> streams_;
  CUstream out_ = nullptr;
  CUstream in_ = nullptr;
  mutable std::shared_mutex mutex_;
  std::map<Address, std::size_t> pinned_;  // bytes by address
};

}  // namespace swapmem::cuda
