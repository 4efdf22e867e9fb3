// How much memory can be taken without the system having to kill a process for it.
#pragma once

#include <cstddef>
#include <string>

namespace swapmem {

// The least of what the machine has available and what each control group of this process still
// allows; page cache counts as available in both. What cannot be read sets no limit. `root` is put
// before the names of the system's files.
std::size_t available_memory_bytes(const std::string& root = "");

}  // namespace swapmem
