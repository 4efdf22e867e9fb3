#include "support/scarce_threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <cerrno>

namespace {

using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);

thread_local std::uint64_t left = 0;  // until the first that is refused; 0: none is

}  // namespace

// In place of the system's, for all that std::thread starts.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) noexcept {
  static const auto create = reinterpret_cast<Create*>(dlsym(RTLD_NEXT, "pthread_create"));
  if (left == 1) return EAGAIN;
  if (left > 1) --left;
  return create(thread, attributes, run, argument);
}

namespace swapmem::test {

ScarceThreads::ScarceThreads(std::uint64_t nth) {
  left = nth;
}

ScarceThreads::~ScarceThreads() {
  left = 0;
}

}  // namespace swapmem::test
