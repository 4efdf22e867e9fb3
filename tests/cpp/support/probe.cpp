#include "support/probe.h"

#include <fcntl.h>
#include <unistd.h>

#include "check.h"

namespace swapmem::test {

namespace {

struct Pipe {
  int ends[2];
  Pipe() { CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
};

}  // namespace

bool readable(Address address) {
  const Pipe pipe;
  return write(pipe.ends[1], reinterpret_cast<const void*>(address), 1) == 1;
}

bool writable(Address address) {
  const Pipe pipe;
  auto* byte = reinterpret_cast<void*>(address);
  if (write(pipe.ends[1], byte, 1) != 1) return false;
  return read(pipe.ends[0], byte, 1) == 1;
}

}  // namespace swapmem::test
