// What the fake driver says of itself.
#pragma once

#include <string>

#include "fake_driver/fake_driver.h"

namespace swapmem::test {

inline std::string report_text() {
  std::string text(fake_reports(nullptr, 0), '\0');
  fake_reports(text.data(), text.size());
  text.pop_back();  // the zero at its end
  return text;
}

inline FakeCounts counts() {
  FakeCounts now{};
  fake_counts(&now);
  return now;
}

}  // namespace swapmem::test
