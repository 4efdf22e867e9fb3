// Physical memory: pieces of one sparse file in memory, which can be mapped any number of times.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>

namespace fake {

class Physical {
 public:
  Physical();
  ~Physical();
  Physical(const Physical&) = delete;
  Physical& operator=(const Physical&) = delete;

  off_t allocate(std::size_t bytes, bool garbage);
  void release(off_t at, std::size_t bytes);

  void map(void* address, std::size_t bytes, off_t at, int protection);

  // Address space without memory, aligned; not inherited by children.
  static void* reserve(std::size_t bytes, std::size_t alignment);
  static void hide(void* address, std::size_t bytes);

 private:
  int file_;
  off_t end_ = 0;
  std::multimap<std::size_t, off_t> free_;
};

}  // namespace fake
