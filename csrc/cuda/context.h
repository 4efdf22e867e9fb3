// A device's primary context: what CuPy and PyTorch compute in too. Retained for as long as this
// lives, and made current only while a call needs it.
//
// Threads: any, several at once. Errors: DeviceError.
#pragma once

#include "cuda/driver.h"

namespace swapmem::cuda {

class Context {
 public:
  explicit Context(int ordinal);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Current for the calling thread inside; the thread's own stack of contexts is then as before.
  class Scope {
   public:
    explicit Scope(const Context& context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const Driver& driver_;
    bool pushed_ = false;
  };

  // Whether this process is a child that was forked since: the driver cannot be used there.
  bool forked() const;

  const Driver& driver() const { return driver_; }
  CUcontext handle() const { return handle_; }
  CUdevice device() const { return device_; }
  int ordinal() const { return ordinal_; }

 private:
  const Driver& driver_;
  const int ordinal_;
  const int process_;
  CUdevice device_ = 0;
  CUcontext handle_ = nullptr;
};

}  // namespace swapmem::cuda
