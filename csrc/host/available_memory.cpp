#include "host/available_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <sstream>

namespace swapmem {

namespace {

constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

// The number after `key` in a file of lines "key number ..."; `otherwise` if there is none.
std::size_t value(const std::string& path, const std::string& key, std::size_t otherwise) {
  std::ifstream file(path);
  std::string name;
  std::string rest;
  while (file >> name) {
    std::size_t number = 0;
    if (name == key && file >> number) return number;
    file.clear();
    std::getline(file, rest);
  }
  return otherwise;
}

// A file that holds one number; "max" and a file that is not there are `otherwise`.
std::size_t value(const std::string& path, std::size_t otherwise) {
  std::size_t number = 0;
  return std::ifstream(path) >> number ? number : otherwise;
}

// Where one version of control groups keeps its numbers.
struct Files {
  const char* mount;
  const char* limit;
  const char* usage;
  const char* active;
  const char* inactive;
};
constexpr Files version_2{"/sys/fs/cgroup", "memory.max", "memory.current", "active_file",
                          "inactive_file"};
constexpr Files version_1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                          "total_active_file", "total_inactive_file"};

// Of the group and of those it is in: each has a limit of its own.
std::size_t available_in_group(const std::string& root, const Files& files, std::string group) {
  std::size_t least = unlimited;
  while (true) {
    const std::string directory = root + files.mount + group + "/";
    const std::size_t limit = value(directory + files.limit, unlimited);
    if (limit != unlimited) {
      const std::size_t cache = value(directory + "memory.stat", files.active, 0) +
                                value(directory + "memory.stat", files.inactive, 0);
      const std::size_t usage = value(directory + files.usage, 0);
      const std::size_t taken = usage - std::min(usage, cache);
      least = std::min(least, limit - std::min(limit, taken));
    }
    if (group.empty()) return least;
    group.erase(group.rfind('/'));
  }
}

}  // namespace

std::size_t available_memory_bytes(const std::string& root) {
  const std::size_t kilobytes = value(root + "/proc/meminfo", "MemAvailable:", unlimited);
  std::size_t least = kilobytes == unlimited ? unlimited : kilobytes * 1024;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // number:controllers:/path; version 2 names no controllers.
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string group = line.substr(second + 1);
    if (group.empty() || group[0] != '/') continue;
    if (group == "/") group.clear();
    if (controllers == ",,") {
      least = std::min(least, available_in_group(root, version_2, group));
    } else if (controllers.find(",memory,") != std::string::npos) {
      least = std::min(least, available_in_group(root, version_1, group));
    }
  }
  return least;
}

}  // namespace swapmem
