// Processes of a test: what they wrote to standard error and how they ended.
#pragma once

#include <functional>
#include <string>

namespace swapmem::test {

struct Ended {
  int status;  // as of waitpid
  std::string errors;
  bool exited(int code) const;
  bool died() const;  // by a signal, or by what a sanitizer makes of one
};

// Runs `body` in a forked child, which ends with its result.
Ended in_fork(const std::function<int()>& body);

// Runs one test of this executable in a new process.
Ended in_new_process(const std::string& test);

}  // namespace swapmem::test
