#include "support/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

// Writes down which lines have run; there if that is counted.
extern "C" [[gnu::weak]] void __gcov_dump();

namespace swapmem::test {

bool Ended::exited(int code) const {
  return WIFEXITED(status) && WEXITSTATUS(status) == code;
}
bool Ended::died() const {
  return WIFSIGNALED(status) || (WIFEXITED(status) && !exited(0));
}

Ended in_fork(const std::function<int()>& body) {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    const int result = body();
    if (__gcov_dump != nullptr) __gcov_dump();
    _exit(result);
  }
  close(ends[1]);
  Ended ended{0, {}};
  char buffer[1024];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    ended.errors.append(buffer, static_cast<std::size_t>(n));
  }
  close(ends[0]);
  CHECK(waitpid(child, &ended.status, 0) == child);
  return ended;
}

Ended in_new_process(const std::string& test) {
  return in_fork([&] {
    execl("/proc/self/exe", "swapmem_tests", test.c_str(), static_cast<char*>(nullptr));
    return 127;
  });
}

}  // namespace swapmem::test
