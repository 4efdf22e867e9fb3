// What a store says when it refuses.
#pragma once

#include <functional>
#include <string>

#include "check.h"
#include "core/errors.h"

namespace swapmem::test {

inline std::string refusal(const std::function<void()>& call, int code) {
  try {
    call();
  } catch (const StoreError& error) {
    CHECK_EQUAL(error.code, code);
    return error.what();
  }
  CHECK(false);
}

inline bool names(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace swapmem::test
