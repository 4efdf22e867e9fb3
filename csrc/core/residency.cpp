#include "core/residency.h"

#include <stdexcept>
#include <string>

namespace swapmem {

const char* name(State state) {
  switch (state) {
    case State::cold:
      return "cold";
    case State::warm:
      return "warm";
    case State::staging:
      return "staging";
    case State::resident:
      return "resident";
    case State::cleaning:
      return "cleaning";
    case State::clean:
      return "clean";
    case State::evicting:
      return "evicting";
    case State::out:
      return "out";
    case State::filling:
      return "filling";
  }
  return "?";
}

std::size_t charged_bytes(const Block& block) {
  switch (block.state) {
    case State::cold:
    case State::out:
    case State::filling:
      return 0;
    case State::warm:
      return block.warm_bytes;
    default:
      return block.capacity_bytes;
  }
}

namespace {

bool edge(State from, State to) {
  switch (from) {
    case State::cold:
      return to == State::staging || to == State::warm;
    case State::warm:
      return to == State::staging || to == State::cold;
    case State::staging:
      return to == State::resident || to == State::warm || to == State::cold;
    case State::resident:
      return to == State::cleaning || to == State::warm;
    case State::cleaning:
      return to == State::clean || to == State::resident || to == State::warm;
    case State::clean:
      return to == State::resident || to == State::evicting || to == State::warm;
    case State::evicting:
      return to == State::out || to == State::clean;
    case State::out:
      return to == State::filling || to == State::cold;
    case State::filling:
      return to == State::clean || to == State::resident || to == State::out;
  }
  return false;
}

}  // namespace

void transition(Block& block, State to) {
  if (!edge(block.state, to)) {
    throw std::logic_error(std::string("no edge from ") + name(block.state) + " to " + name(to));
  }
  block.state = to;
}

}  // namespace swapmem
