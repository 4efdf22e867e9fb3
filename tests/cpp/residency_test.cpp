// The state machine: every edge that block.h draws, and no other.
#include <set>
#include <stdexcept>
#include <utility>

#include "check.h"
#include "core/residency.h"

using namespace swapmem;

namespace {

const std::set<std::pair<State, State>> edges{
    {State::cold, State::staging},      // memory is put behind it
    {State::cold, State::warm},         // it parks the memory of a block that leaves
    {State::warm, State::staging},      // its memory is used again
    {State::warm, State::cold},         // its memory went elsewhere
    {State::staging, State::resident},  // allocated
    {State::staging, State::warm},      // not needed after all
    {State::staging, State::cold},      // it filled another block
    {State::resident, State::cleaning}, {State::resident, State::warm},
    {State::cleaning, State::clean},    {State::cleaning, State::resident},
    {State::cleaning, State::warm},     {State::clean, State::resident},
    {State::clean, State::evicting},    {State::clean, State::warm},
    {State::evicting, State::out},      {State::evicting, State::clean},
    {State::out, State::filling},       {State::out, State::cold},
    {State::filling, State::clean},     {State::filling, State::resident},
    {State::filling, State::out},
};

constexpr State all[] = {State::cold,     State::warm,     State::staging,
                         State::resident, State::cleaning, State::clean,
                         State::evicting, State::out,      State::filling};

}  // namespace

TEST(residency, every_edge_of_the_picture_is_taken_and_no_other) {
  for (const State from : all) {
    for (const State to : all) {
      Block block;
      block.state = from;
      if (edges.contains({from, to})) {
        transition(block, to);
        CHECK_EQUAL(name(block.state), std::string(name(to)));
      } else {
        CHECK_THROWS(std::logic_error, transition(block, to));
        CHECK_EQUAL(name(block.state), std::string(name(from)));
      }
    }
  }
}

TEST(residency, memory_is_charged_exactly_where_there_is_memory) {
  for (const State state : all) {
    Block block;
    block.state = state;
    block.capacity_bytes = 10;
    block.warm_bytes = 7;
    const bool none = state == State::cold || state == State::out || state == State::filling;
    CHECK_EQUAL(charged_bytes(block), none ? 0u : state == State::warm ? 7u : 10u);
  }
}

TEST(residency, states_have_names_of_their_own) {
  std::set<std::string> names;
  for (const State state : all) names.insert(name(state));
  CHECK_EQUAL(names.size(), std::size(all));
  CHECK(!names.contains("?"));
}
