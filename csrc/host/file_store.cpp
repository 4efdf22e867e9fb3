#include "host/file_store.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/errors.h"
#include "core/size_class.h"

namespace swapmem {

namespace {

constexpr std::uint64_t growth_bytes = std::uint64_t{256} << 20;

int system_open(const char* path, int flags, mode_t mode) {
  return open(path, flags, mode);
}

int open_unnamed(const FileCalls& calls, const std::string& directory, int extra_flags) {
  const int flags = O_RDWR | O_CLOEXEC | extra_flags;
  int file = calls.open(directory.c_str(), flags | O_TMPFILE | O_EXCL, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) return file;
  // No O_TMPFILE on this file system (or no such directory: found out here).
  std::string name = directory + "/swapmem-XXXXXX";
  file = mkostemp(name.data(), O_CLOEXEC | extra_flags);  // O_EXCL, mode 0600
  if (file >= 0) unlink(name.c_str());
  return file;
}

}  // namespace

FileCalls FileCalls::system() {
  return {system_open, ::pread, ::pwrite, ::fallocate};
}

FileStore::FileStore(const std::string& directory, std::size_t budget_bytes, bool reserve_now,
                     FileCalls calls)
    : directory_(directory), budget_bytes_(budget_bytes / page_bytes * page_bytes), calls_(calls) {
  file_ = open_unnamed(calls_, directory, O_DIRECT);
  if (file_ < 0 && errno == EINVAL) {
    file_ = open_unnamed(calls_, directory, 0);
    if (file_ >= 0) {
      notices_.push_back(directory +
                         " takes no O_DIRECT: copies go through the page cache, which " +
                         "costs processor time and memory outside the budget");
    }
  }
  if (file_ < 0) fail("cannot make a file", errno);
  struct statfs fs{};
  if (fstatfs(file_, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)) {
    notices_.push_back(directory +
                       " is a file system in memory (tmpfs): what is swapped out there " +
                       "still takes RAM");
  }
  if (reserve_now && budget_bytes_ > 0) {
    try {
      grow(budget_bytes_);
    } catch (...) {
      close(file_);
      throw;
    }
  }
}

FileStore::~FileStore() {
  close(file_);
}

void FileStore::fail(const std::string& what, int code) const {
  std::string text = "file store in " + directory_ + ": " + what + ": " + std::strerror(code);
  if (code == ENOSPC || code == EDQUOT) {
    text += "; " + std::to_string(used_bytes_) + " bytes used of a budget of " +
            std::to_string(budget_bytes_) +
            " bytes; free space there, or name another directory with spill_dir";
  }
  throw StoreError(text, code);
}

// Called with the lock held: growth is rare, and only workers that need space wait for it.
void FileStore::grow(std::size_t bytes) {
  const std::uint64_t wanted = std::max<std::uint64_t>(bytes, growth_bytes);
  const std::uint64_t added = std::min<std::uint64_t>(wanted, budget_bytes_ - file_bytes_);
  if (added < bytes) fail("its budget is used up", ENOSPC);
  int code = 0;
  do {
    code =
        calls_.fallocate(file_, 0, static_cast<off_t>(file_bytes_), static_cast<off_t>(added)) == 0
            ? 0
            : errno;
  } while (code == EINTR);
  if (code == EOPNOTSUPP) {
    code = ftruncate(file_, static_cast<off_t>(file_bytes_ + added)) == 0 ? 0 : errno;
  }
  if (code != 0) fail("cannot reserve " + std::to_string(added) + " bytes", code);
  free_.add({file_bytes_, added});
  file_bytes_ += added;
}

Slot FileStore::reserve(std::size_t bytes) {
  std::lock_guard lock(mutex_);
  std::optional<Extent> extent = free_.take(bytes);
  if (!extent) {
    grow(bytes);
    extent = free_.take(bytes);
  }
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return {extent->offset, bytes};
}

void FileStore::release(Slot slot) noexcept {
  std::lock_guard lock(mutex_);
  used_bytes_ -= slot.bytes;
  free_.give({slot.offset, slot.bytes});
}

// Calls that are interrupted or fall short are continued, from a page on: O_DIRECT takes no less.
template <typename Call>
void FileStore::transfer(const char* what, std::size_t bytes, Call call) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = call(done);
    const int code = n < 0 ? errno : 0;
    if (code == EINTR) continue;
    if (code != 0) fail(std::string(what) + " of " + std::to_string(bytes) + " bytes", code);
    const std::size_t moved = static_cast<std::size_t>(n);
    if (done + moved < bytes && moved < page_bytes) {
      fail(std::string(what) + " of " + std::to_string(bytes) + " bytes fell short", EIO);
    }
    done += done + moved < bytes ? moved / page_bytes * page_bytes : moved;
  }
}

void FileStore::write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) {
  transfer("write", bytes, [&](std::size_t done) {
    return calls_.pwrite(file_, static_cast<const char*>(from) + done, bytes - done,
                         static_cast<off_t>(slot.offset + offset + done));
  });
}

void FileStore::read(Slot slot, std::size_t offset, void* to, std::size_t bytes) {
  transfer("read", bytes, [&](std::size_t done) {
    return calls_.pread(file_, static_cast<char*>(to) + done, bytes - done,
                        static_cast<off_t>(slot.offset + offset + done));
  });
}

std::size_t FileStore::used_bytes() const {
  std::lock_guard lock(mutex_);
  return used_bytes_;
}

std::size_t FileStore::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return peak_bytes_;
}

}  // namespace swapmem
