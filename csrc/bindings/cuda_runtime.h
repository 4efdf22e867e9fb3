// An engine over the memory of a CUDA device.
#pragma once

#include <memory>

#include "bindings/runtime.h"

namespace swapmem {

// Smaller arrays share chunks: a page of the device is 2 MiB, and each block has its own pages.
inline constexpr std::size_t min_cuda_block_bytes = std::size_t{512} << 10;

class CudaRuntime final : public Runtime {
 public:
  explicit CudaRuntime(std::unique_ptr<Engine> engine);
  ~CudaRuntime() override;

  bool in_forked_child() const override;
  std::size_t min_block_bytes() const override { return min_cuda_block_bytes; }
  Engine& moving_engine() override;
  // CUDA does not work in a forked child, and another thread may have held the engine's lock when
  // it was forked: there is nothing that can be looked at.
  Engine& readable_engine() override { return moving_engine(); }
};

}  // namespace swapmem
