// A part of a range of addresses that lies in one piece of memory.
#pragma once

#include <cstddef>

#include "fake_driver/shadow.h"

namespace fake {

struct Piece {
  Shadow* shadow;  // of the memory, whatever address it is reached by
  std::size_t begin;
  std::size_t end;
  Uses* uses;            // of the mapping or registration it is reached by
  double ready_seconds;  // when that was made
};

}  // namespace fake
