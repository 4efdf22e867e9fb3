#include "host/user_fault.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace swapmem::user_fault {

namespace {

int open_descriptor() {
  const char* wanted = std::getenv("SWAPMEM_USERFAULTFD");
  if (wanted != nullptr && std::strcmp(wanted, "0") == 0) return -1;
  // Without O_NONBLOCK it cannot be polled.
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd < 0) return -1;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_THREAD_ID;
  if (ioctl(fd, UFFDIO_API, &api) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

uffdio_range range(Span span) {
  return {span.address, span.bytes};
}

}  // namespace

int descriptor() {
  static const int fd = open_descriptor();
  return fd;
}

bool watch(Span span) {
  if (descriptor() < 0) return false;
  uffdio_register request{};
  request.range = range(span);
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  return ioctl(descriptor(), UFFDIO_REGISTER, &request) == 0;
}

void forget(Span span) {
  uffdio_range request = range(span);
  if (descriptor() >= 0) ioctl(descriptor(), UFFDIO_UNREGISTER, &request);
}

void wake(Span span) {
  uffdio_range request = range(span);
  if (descriptor() >= 0) ioctl(descriptor(), UFFDIO_WAKE, &request);
}

bool read(Touch& touch) {
  uffd_msg message{};
  if (::read(descriptor(), &message, sizeof message) != sizeof message) return false;
  if (message.event != UFFD_EVENT_PAGEFAULT) return false;
  touch.address = message.arg.pagefault.address;
  touch.thread = static_cast<int>(message.arg.pagefault.feat.ptid);
  touch.write = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0;
  return true;
}

}  // namespace swapmem::user_fault
