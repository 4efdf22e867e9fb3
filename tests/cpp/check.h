// A small test harness: TEST defines a property, CHECK states it.
//
//   TEST(budget, refuses_what_goes_over_it) { CHECK(...); CHECK_THROWS(Error, call()); }
//
// A failed CHECK prints file, line, expression and, if the test drew random numbers, the seed that
// repeats it (SWAPMEM_SEED=...), then ends the test. It may be used in a Task (support/task.h).
#pragma once

#include <cstdint>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace check {

struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Test {
  std::string name;  // suite/test, with /variant if there are several
  std::function<void()> body;
};

std::vector<Test>& tests();
inline bool add(std::string name, std::function<void()> body) {
  tests().push_back({std::move(name), std::move(body)});
  return true;
}

// The seed of this run, from SWAPMEM_SEED or else a new one; from then on failures name it.
std::uint64_t seed();

[[noreturn]] void fail(const char* file, int line, const std::string& what);

template <typename A, typename B>
void equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream what;
  what << text << ": " << a << " != " << b;
  fail(file, line, what.str());
}

}  // namespace check

#define TEST(suite, test)                                     \
  static void suite##_##test();                               \
  [[maybe_unused]] static const bool suite##_##test##_added = \
      check::add(#suite "/" #test, suite##_##test);           \
  static void suite##_##test()

// The same test for every value of a vector; the body sees it as `kind`, which has a name.
#define CHECK_KIND(kinds) std::remove_cvref_t<decltype(kinds)>::value_type
#define TEST_EACH(suite, test, kinds)                                                 \
  static void suite##_##test(const CHECK_KIND(kinds) & kind);                         \
  [[maybe_unused]] static const bool suite##_##test##_added = [] {                    \
    for (const auto& each : kinds) {                                                  \
      check::add(#suite "/" #test "/" + each.name, [each] { suite##_##test(each); }); \
    }                                                                                 \
    return true;                                                                      \
  }();                                                                                \
  static void suite##_##test([[maybe_unused]] const CHECK_KIND(kinds) & kind)

#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQUAL(a, b) check::equal(__FILE__, __LINE__, #a " == " #b, a, b)

#define CHECK_THROWS(type, ...)                                                  \
  do {                                                                           \
    bool thrown = false;                                                         \
    try {                                                                        \
      __VA_ARGS__;                                                               \
    } catch (const type&) {                                                      \
      thrown = true;                                                             \
    }                                                                            \
    if (!thrown) check::fail(__FILE__, __LINE__, #__VA_ARGS__ " throws " #type); \
  } while (false)
