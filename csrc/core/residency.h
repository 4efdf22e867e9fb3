// The state machine of a block. The only place that assigns Block::state.
#pragma once

#include "core/block.h"

namespace swapmem {

// Throws std::logic_error if the machine has no such edge.
void transition(Block& block, State to);

}  // namespace swapmem
