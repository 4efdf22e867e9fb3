// What the core throws. Every error carries the numbers a caller needs to act on it.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace swapmem {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The device budget cannot hold what has to be resident at the same time. Nothing was changed.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& what, std::size_t requested_bytes, std::size_t used_bytes,
              std::size_t budget_bytes, std::size_t needed_bytes, std::string op)
      : Error(what),
        requested_bytes(requested_bytes),
        used_bytes(used_bytes),
        budget_bytes(budget_bytes),
        needed_bytes(needed_bytes),
        op(std::move(op)) {}

  const std::size_t requested_bytes;
  const std::size_t used_bytes;  // held by open operations and pins, not to be evicted
  const std::size_t budget_bytes;
  const std::size_t needed_bytes;  // the smallest budget known to be needed
  const std::string op;            // "" outside every op
};

// A store could not take or give back bytes. The block is where it was before.
class StoreError : public Error {
 public:
  StoreError(const std::string& what, int code) : Error(what), code(code) {}
  const int code;  // errno
};

// The device refused a mapping. The block is where it was before.
class DeviceError : public Error {
 public:
  DeviceError(const std::string& what, int code) : Error(what), code(code) {}
  const int code;  // errno, or the driver's own code
};

// The caller named a block that does not exist or cannot do what was asked.
class InvalidBlock : public Error {
 public:
  using Error::Error;
};

}  // namespace swapmem
