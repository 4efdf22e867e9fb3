// The file store: its file, and what it makes of an operating system that fails.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "host/checksum_store.h"
#include "host/file_store.h"
#include "support/bytes.h"
#include "support/kinds.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t budget_bytes = std::size_t{16} << 20;

// A directory of its own, gone with the object.
class Directory {
 public:
  Directory() : path_(test_directory() + "/file-store-XXXXXX") {
    CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~Directory() { rmdir(path_.c_str()); }
  const std::string& path() const { return path_; }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    DIR* directory = opendir(path_.c_str());
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") result.push_back(name);
    }
    closedir(directory);
    return result;
  }

 private:
  std::string path_;
};

std::set<int> open_files() {
  std::set<int> files;
  DIR* directory = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(directory)) files.insert(std::atoi(entry->d_name));
  files.erase(dirfd(directory));
  closedir(directory);
  return files;
}

// Opens a store and tells which file it made.
struct Opened {
  std::set<int> before = open_files();
  FileStore store;
  int file = -1;
  Opened(const std::string& directory, std::size_t bytes, bool reserve_now = false,
         FileCalls calls = FileCalls::system())
      : store(directory, bytes, reserve_now, calls) {
    for (const int fd : open_files()) {
      if (!before.contains(fd)) file = fd;
    }
    CHECK(file >= 0);
  }
};

// The operating system, failing on command. Plain functions can only be told by globals.
std::atomic<int> code{0};  // errno of what fails; 0: a short count
std::atomic<int> failures_left{0};
std::atomic<int> passes_left{0};       // calls that succeed first
std::atomic<std::size_t> short_by{0};  // how many bytes a short transfer still moves

bool fails_now() {
  return passes_left-- <= 0 && failures_left-- > 0;
}

int refused_flags = 0;  // what the file system does not know, and the errno it says so with
int refusal = 0;

int faulty_open(const char* path, int flags, mode_t mode) {
  if ((flags & refused_flags) == refused_flags && refused_flags != 0) {
    errno = refusal;
    return -1;
  }
  return open(path, flags, mode);
}
ssize_t faulty_pread(int file, void* to, std::size_t bytes, off_t at) {
  if (!fails_now()) return pread(file, to, bytes, at);
  if (code == 0) return pread(file, to, std::min(bytes, short_by.load()), at);
  errno = code;
  return -1;
}
ssize_t faulty_pwrite(int file, const void* from, std::size_t bytes, off_t at) {
  if (!fails_now()) return pwrite(file, from, bytes, at);
  if (code == 0) return pwrite(file, from, std::min(bytes, short_by.load()), at);
  errno = code;
  return -1;
}
int faulty_fallocate(int file, int mode, off_t at, off_t bytes) {
  if (!fails_now()) return fallocate(file, mode, at, bytes);
  errno = code;
  return -1;
}

void fail_with(int error, int times, int passes = 0, std::size_t moved = 0) {
  code = error;
  failures_left = times;
  passes_left = passes;
  short_by = moved;
}

constexpr int for_ever = 1 << 30;

FileCalls faulty() {
  return {faulty_open, faulty_pread, faulty_pwrite, faulty_fallocate};
}

alignas(page_bytes) char page_memory[8 * page_bytes];
const Address memory = reinterpret_cast<Address>(page_memory);

void expect_code(int expected, const std::function<void()>& call) {
  try {
    call();
  } catch (const StoreError& error) {
    CHECK_EQUAL(error.code, expected);
    return;
  }
  CHECK(false);
}

}  // namespace

TEST(file_store, the_file_has_no_name_and_is_private) {
  const Directory directory;
  Opened opened(directory.path(), budget_bytes);
  opened.store.reserve(page_bytes);
  CHECK(directory.names().empty());
  struct stat status{};
  CHECK(fstat(opened.file, &status) == 0);
  CHECK_EQUAL(status.st_mode & 07777, 0600u);
  CHECK_EQUAL(status.st_nlink, 0u);
  CHECK((fcntl(opened.file, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST(file_store, a_closed_store_leaves_no_open_file) {
  const std::set<int> before = open_files();
  {
    FileStore store(test_directory(), budget_bytes, false);
  }
  CHECK(open_files() == before);
}

TEST(file_store, space_is_taken_at_once_if_asked_for) {
  Opened opened(test_directory(), budget_bytes, true);
  struct stat status{};
  CHECK(fstat(opened.file, &status) == 0);
  CHECK(static_cast<std::size_t>(status.st_blocks) * 512 >= budget_bytes);
}

TEST(file_store, a_directory_that_cannot_be_used_is_named) {
  for (const auto& [path, expected] : {std::pair<std::string, int>{"/nowhere/at/all", ENOENT},
                                       {"/proc/self", 0},
                                       {"/dev/null", ENOTDIR}}) {
    try {
      FileStore store(path, budget_bytes, false);
      CHECK(false);
    } catch (const StoreError& error) {
      CHECK(std::string(error.what()).find(path) != std::string::npos);
      if (expected != 0) CHECK_EQUAL(error.code, expected);
    }
  }
}

TEST(file_store, a_failed_reservation_at_the_start_leaves_no_open_file) {
  const std::set<int> before = open_files();
  fail_with(ENOSPC, 1);
  expect_code(ENOSPC, [] { FileStore store(test_directory(), budget_bytes, true, faulty()); });
  CHECK(open_files() == before);
}

TEST(file_store, a_file_system_in_memory_is_said) {
  struct statfs fs{};
  if (statfs("/dev/shm", &fs) != 0 || access("/dev/shm", W_OK) != 0) {
    std::printf("skipped: no tmpfs at /dev/shm\n");
    return;
  }
  FileStore store("/dev/shm", std::size_t{1} << 20, false);
  bool said = false;
  for (const std::string& notice : store.notices()) {
    said = said || notice.find("tmpfs") != std::string::npos;
  }
  CHECK(said);
}

TEST(file_store, a_file_system_without_direct_access_is_said_and_used) {
  refused_flags = O_DIRECT;
  refusal = EINVAL;
  Opened opened(test_directory(), budget_bytes, false, faulty());
  refused_flags = 0;
  CHECK_EQUAL(opened.store.notices().size(), 1u);
  CHECK(opened.store.notices().front().find("O_DIRECT") != std::string::npos);
  CHECK((fcntl(opened.file, F_GETFL) & O_DIRECT) == 0);
  const Slot slot = opened.store.reserve(sizeof page_memory);
  fill(memory, sizeof page_memory, 1);
  opened.store.write(slot, 0, page_memory, sizeof page_memory);
  fill(memory, sizeof page_memory, 2);
  opened.store.read(slot, 0, page_memory, sizeof page_memory);
  CHECK(holds(memory, sizeof page_memory, 1));
}

TEST(file_store, a_file_system_without_unnamed_files_keeps_no_name_either) {
  const Directory directory;
  refused_flags = O_TMPFILE;
  refusal = EOPNOTSUPP;
  Opened opened(directory.path(), budget_bytes, false, faulty());
  refused_flags = 0;
  CHECK(directory.names().empty());
  struct stat status{};
  CHECK(fstat(opened.file, &status) == 0);
  CHECK_EQUAL(status.st_mode & 07777, 0600u);
  CHECK_EQUAL(status.st_nlink, 0u);
}

TEST(file_store, interrupted_and_short_transfers_are_continued) {
  for (const int error : {EINTR, 0}) {
    fail_with(0, 0);
    FileStore store(test_directory(), budget_bytes, true, faulty());
    const Slot slot = store.reserve(sizeof page_memory);
    fill(memory, sizeof page_memory, 1);
    fail_with(error, 5, 0, page_bytes);
    store.write(slot, 0, page_memory, sizeof page_memory);
    fill(memory, sizeof page_memory, 2);
    fail_with(error, 5, 0, page_bytes);
    store.read(slot, 0, page_memory, sizeof page_memory);
    CHECK(holds(memory, sizeof page_memory, 1));
  }
}

TEST(file_store, short_transfers_of_odd_length_are_continued) {
  // A file opened with O_DIRECT takes whole sectors only, so the store has to start over at one.
  struct Odd {
    static ssize_t read(int file, void* to, std::size_t bytes, off_t at) {
      const ssize_t n = pread(file, to, bytes, at);
      return n > 1000 && fails_now() ? n - 1000 : n;
    }
    static ssize_t write(int file, const void* from, std::size_t bytes, off_t at) {
      const ssize_t n = pwrite(file, from, bytes, at);
      return n > 1000 && fails_now() ? n - 1000 : n;
    }
  };
  FileStore store(test_directory(), budget_bytes, true,
                  {faulty_open, Odd::read, Odd::write, fallocate});
  const Slot slot = store.reserve(sizeof page_memory);
  fill(memory, sizeof page_memory, 3);
  fail_with(0, 1);
  store.write(slot, 0, page_memory, sizeof page_memory);
  fill(memory, sizeof page_memory, 4);
  fail_with(0, 1);
  store.read(slot, 0, page_memory, sizeof page_memory);
  CHECK(holds(memory, sizeof page_memory, 3));
}

TEST(file_store, transfers_that_make_no_progress_end_in_an_error) {
  fail_with(0, 0);
  FileStore store(test_directory(), budget_bytes, true, faulty());
  const Slot slot = store.reserve(page_bytes);
  fail_with(0, for_ever, 0, 0);
  expect_code(EIO, [&] { store.write(slot, 0, page_memory, page_bytes); });
  expect_code(EIO, [&] { store.read(slot, 0, page_memory, page_bytes); });
}

TEST(file_store, an_error_of_the_disk_reaches_the_caller_and_the_store_goes_on) {
  for (const int error : {EIO, ENOSPC}) {
    fail_with(0, 0);
    FileStore store(test_directory(), budget_bytes, true, faulty());
    const Slot slot = store.reserve(sizeof page_memory);
    fill(memory, sizeof page_memory, 5);
    fail_with(error, 1);
    expect_code(error, [&] { store.write(slot, 0, page_memory, sizeof page_memory); });
    store.write(slot, 0, page_memory, sizeof page_memory);
    fail_with(error, 1);
    expect_code(error, [&] { store.read(slot, 0, page_memory, sizeof page_memory); });
    store.read(slot, 0, page_memory, sizeof page_memory);
    CHECK(holds(memory, sizeof page_memory, 5));
  }
}

TEST(file_store, a_disk_that_fills_up_at_any_growth_loses_nothing) {
  constexpr std::size_t growth_bytes = std::size_t{256} << 20;
  constexpr int growths = 3;
  for (int nth = 0; nth < growths; ++nth) {
    // Sizes are claimed, not taken: what is reserved here is addresses of a file.
    struct Claimed {
      static int fallocate(int, int, off_t, off_t) {
        if (!fails_now()) return 0;
        errno = ENOSPC;
        return -1;
      }
    };
    FileStore store(test_directory(), growths * growth_bytes, false,
                    {faulty_open, pread, pwrite, Claimed::fallocate});
    fail_with(ENOSPC, 1, nth);
    std::vector<Slot> slots;
    int refused = 0;
    while (slots.size() < growths) {
      try {
        slots.push_back(store.reserve(growth_bytes));
      } catch (const StoreError& error) {
        CHECK_EQUAL(error.code, ENOSPC);
        CHECK(std::string(error.what()).find("spill_dir") != std::string::npos);
        CHECK(++refused == 1);
      }
      CHECK_EQUAL(store.used_bytes(), slots.size() * growth_bytes);
    }
    CHECK_EQUAL(refused, 1);
    for (const Slot& slot : slots) store.release(slot);
    store.release(store.reserve(growths * growth_bytes));
  }
}

TEST(file_store, neighbours_that_are_released_become_one_again_in_any_order) {
  std::vector<int> order{0, 1, 2, 3};
  do {
    FileStore store(test_directory(), 4 * page_bytes, true);
    std::vector<Slot> slots;
    for (int i = 0; i < 4; ++i) slots.push_back(store.reserve(page_bytes));
    for (const int i : order) store.release(slots[static_cast<std::size_t>(i)]);
    CHECK_EQUAL(store.reserve(4 * page_bytes).offset, 0u);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(file_store, the_smallest_free_piece_that_fits_is_used) {
  FileStore store(test_directory(), 8 * page_bytes, true);
  const Slot wide = store.reserve(3 * page_bytes);
  const Slot wall = store.reserve(page_bytes);
  const Slot narrow = store.reserve(page_bytes);
  const Slot rest = store.reserve(3 * page_bytes);
  store.release(wide);
  store.release(narrow);
  CHECK_EQUAL(store.reserve(page_bytes).offset, narrow.offset);
  CHECK_EQUAL(store.reserve(3 * page_bytes).offset, wide.offset);
  CHECK_EQUAL(store.used_bytes(), 8 * page_bytes);
  CHECK(wall.offset != rest.offset);
}

TEST(checksum_store, bytes_that_changed_on_the_disk_are_an_error) {
  Opened opened(test_directory(), budget_bytes);
  class Borrowed : public Store {  // the store of `opened`, which stays its owner
   public:
    explicit Borrowed(Store& inner) : inner_(inner) {}
    Slot reserve(std::size_t bytes) override { return inner_.reserve(bytes); }
    void release(Slot slot) noexcept override { inner_.release(slot); }
    void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override {
      inner_.write(slot, offset, from, bytes);
    }
    void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
      inner_.read(slot, offset, to, bytes);
    }
    std::size_t used_bytes() const override { return inner_.used_bytes(); }
    std::size_t peak_bytes() const override { return inner_.peak_bytes(); }
    std::size_t budget_bytes() const override { return inner_.budget_bytes(); }
    std::vector<std::string> notices() const override { return inner_.notices(); }

   private:
    Store& inner_;
  };
  ChecksumStore store(std::make_unique<Borrowed>(opened.store));
  const Slot slot = store.reserve(sizeof page_memory);
  alignas(page_bytes) static char disk[page_bytes];
  for (const std::size_t place : {std::size_t{0}, std::size_t{4095}, sizeof page_memory - 1}) {
    fill(memory, sizeof page_memory, 6);
    store.write(slot, 0, page_memory, sizeof page_memory);
    store.read(slot, 0, page_memory, sizeof page_memory);
    const off_t page = static_cast<off_t>(slot.offset + place / page_bytes * page_bytes);
    CHECK(pread(opened.file, disk, page_bytes, page) == static_cast<ssize_t>(page_bytes));
    disk[place % page_bytes] ^= 1;
    CHECK(pwrite(opened.file, disk, page_bytes, page) == static_cast<ssize_t>(page_bytes));
    expect_code(EIO, [&] { store.read(slot, 0, page_memory, sizeof page_memory); });
  }
}
