// A file as the store: unnamed from the start, O_DIRECT, space reserved ahead of use.
//
// The file has no name in its directory (or loses it before the first byte is written), so nothing
// is left behind whatever ends the process. Mode 0600.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <string>
#include <vector>

#include "core/store.h"
#include "host/free_space.h"

namespace swapmem {

// The operating system's side of the store, so that tests can make it fail.
struct FileCalls {
  int (*open)(const char*, int, mode_t);
  ssize_t (*pread)(int, void*, std::size_t, off_t);
  ssize_t (*pwrite)(int, const void*, std::size_t, off_t);
  int (*fallocate)(int, int, off_t, off_t);
  static FileCalls system();
};

class FileStore : public Store {
 public:
  // `reserve_now` takes the whole budget from the file system at once, so that it cannot run out
  // later; otherwise the file grows in large steps. Throws StoreError.
  FileStore(const std::string& directory, std::size_t budget_bytes, bool reserve_now,
            FileCalls calls = FileCalls::system());
  ~FileStore() override;
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;

  Slot reserve(std::size_t bytes) override;
  void release(Slot slot) noexcept override;
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override;
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override;
  std::size_t used_bytes() const override;
  std::size_t peak_bytes() const override;
  std::size_t budget_bytes() const override { return budget_bytes_; }
  std::vector<std::string> notices() const override { return notices_; }

 private:
  void grow(std::size_t bytes);
  template <typename Call>
  void transfer(const char* what, std::size_t bytes, Call call);
  [[noreturn]] void fail(const std::string& what, int code) const;

  const std::string directory_;
  const std::size_t budget_bytes_;
  const FileCalls calls_;
  int file_ = -1;
  std::vector<std::string> notices_;

  // used_bytes_ + free_.free_bytes() == file_bytes_ <= budget_bytes_
  mutable std::mutex mutex_;
  std::uint64_t file_bytes_ = 0;
  std::size_t used_bytes_ = 0;
  std::size_t peak_bytes_ = 0;
  FreeSpace free_;
};

}  // namespace swapmem
