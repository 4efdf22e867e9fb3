// What memory is available, told from files as Linux writes them.
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "check.h"
#include "host/available_memory.h"
#include "support/kinds.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

// A root directory with files of its own, gone with the object.
class Root {
 public:
  Root() : path_(test_directory() + "/root-XXXXXX") { CHECK(mkdtemp(path_.data()) != nullptr); }
  ~Root() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = path_ + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

 private:
  std::string path_;
};

}  // namespace

TEST(available_memory, of_this_machine_is_some) {
  CHECK(available_memory_bytes() > 0);
  CHECK(available_memory_bytes() < std::size_t{1} << 50);
}

TEST(available_memory, a_machine_that_says_nothing_sets_no_limit) {
  const Root root;
  CHECK_EQUAL(available_memory_bytes(root.path()), std::numeric_limits<std::size_t>::max());
}

TEST(available_memory, is_what_the_machine_has_without_groups) {
  const Root root;
  root.write("/proc/meminfo", "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:   5000 kB\n");
  root.write("/proc/self/cgroup", "0::/\n");
  CHECK_EQUAL(available_memory_bytes(root.path()), 5000u * 1024);
}

TEST(available_memory, every_group_around_the_process_counts_and_page_cache_does_not) {
  const Root root;
  root.write("/proc/meminfo", "MemAvailable:   5000 kB\n");
  root.write("/proc/self/cgroup", "0::/outer/inner\n");
  root.write("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  root.write("/sys/fs/cgroup/outer/memory.max", "1000000\n");
  root.write("/sys/fs/cgroup/outer/memory.current", "900000\n");
  root.write("/sys/fs/cgroup/outer/memory.stat",
             "anon 200000\nfile 700000\ninactive_file 500000\nactive_file 150000\n");
  CHECK_EQUAL(available_memory_bytes(root.path()), 1000000u - (900000 - 650000));
  root.write("/sys/fs/cgroup/outer/inner/memory.max", "300000\n");
  root.write("/sys/fs/cgroup/outer/inner/memory.current", "400000\n");
  CHECK_EQUAL(available_memory_bytes(root.path()), 0u);
}

TEST(available_memory, groups_of_the_first_version_count_too) {
  const Root root;
  root.write("/proc/meminfo", "MemAvailable:   5000 kB\n");
  root.write("/proc/self/cgroup", "5:cpu,memory:/box\n4:cpuset:/\nnonsense\n1:name=x:\n");
  root.write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2000000\n");
  root.write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "500000\n");
  root.write("/sys/fs/cgroup/memory/box/memory.stat", "cache 7\ntotal_inactive_file 100000\n");
  CHECK_EQUAL(available_memory_bytes(root.path()), 1600000u);
}
