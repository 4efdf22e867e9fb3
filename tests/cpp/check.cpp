#include "check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>

namespace check {

namespace {

std::atomic<std::uint64_t> seed_in_use{0};

}  // namespace

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

std::uint64_t seed() {
  if (seed_in_use == 0) {
    const char* given = std::getenv("SWAPMEM_SEED");
    seed_in_use = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
    std::printf("SWAPMEM_SEED=%llu\n", static_cast<unsigned long long>(seed_in_use.load()));
  }
  return seed_in_use;
}

void fail(const char* file, int line, const std::string& what) {
  std::string text = std::string(file) + ":" + std::to_string(line) + ": " + what;
  if (seed_in_use != 0) text += " (SWAPMEM_SEED=" + std::to_string(seed_in_use) + ")";
  std::fprintf(stderr, "%s\n", text.c_str());  // now: a hang may follow
  throw Failed(text);
}

}  // namespace check

// Runs the tests whose name starts with one of the arguments, or all but those of the suite
// `child`, which other tests run in a process of their own.
int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  int passed = 0;
  int failed = 0;
  for (const check::Test& test : check::tests()) {
    bool wanted = count == 1 && test.name.rfind("child/", 0) != 0;
    for (int i = 1; i < count; ++i) {
      wanted = wanted || test.name.compare(0, std::strlen(arguments[i]), arguments[i]) == 0;
    }
    if (!wanted) continue;
    try {
      test.body();
      ++passed;
      continue;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "FAILED %s: %s\n", test.name.c_str(), error.what());
    }
    ++failed;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
