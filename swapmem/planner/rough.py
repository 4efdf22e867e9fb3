"""About how much is worth recomputing: a first guess, for a thousandth of what a plan costs."""

from __future__ import annotations

import numpy as np

from swapmem.planner.levels import Levels
from swapmem.planner.phases import rates_alone
from swapmem.planner.prepared import Prepared
from swapmem.planner.repeated import turn_of
from swapmem.planner.trace import Machine

_GUESSES = 64


def rough_count(prepared: Prepared, machine: Machine, levels: Levels) -> int:
    """How many of the first segments would do if copies had to wait for nothing.

    What exceeds the budget at the fullest moment leaves while forward runs and comes back while
    backward does. That what runs again needs room is left out of account.

    Args:
        prepared: the trace without them.
        machine: what to plan for.
        levels: its segments.

    Returns:
        The number of names, 1 at least, with which both are over soonest.
    """
    most = len(levels.names)
    counts = range(1, most + 1, max(1, most // _GUESSES))
    return min(counts, key=lambda count: (_seconds(prepared, machine, levels, count), count))


def _seconds(prepared: Prepared, machine: Machine, levels: Levels, count: int) -> float:
    forward = float(prepared.times[2 * turn_of(prepared.trace.ops)])
    backward = prepared.compute_seconds - forward
    change = np.zeros(len(prepared.live) + 1, np.int64)
    for segment in levels.segments(levels.first(count)):
        backward += segment.seconds
        for index in segment.blocks:
            block = prepared.trace.blocks[index]
            change[2 * segment.last + 2] -= block.bytes
            # What a slot counts is the most that lives in it.
            change[-1 if block.freed is None else block.freed + 1] += block.bytes
    live = prepared.live + change.cumsum()[:-1]
    excess = max(0, int(live.max()) - machine.budget_bytes)
    out_rate, in_rate = rates_alone(machine.link)
    return max(forward, excess / out_rate) + max(backward, excess / in_rate)
