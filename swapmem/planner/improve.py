"""What to change in a plan, told by where it stalls."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from swapmem.planner.intervals import NEVER
from swapmem.planner.selection import Choice, Order, Problem, Timeline
from swapmem.planner.simulation import Simulation, Stall

ORDERS: tuple[Order, ...] = ("furthest", "longest", "largest", "earliest")
# Of how many stalls the causes are looked at in one round, and how many gaps between copies in are
# filled, the longest first.
_STALLS = 6
_GAPS = 2


def changes(problem: Problem, choice: Choice, simulation: Simulation) -> Iterator[Choice]:
    """Proposes changes, the most promising ones first.

    A copy in that comes late is asked for earlier, gets room earlier, or is not made at all. Where
    an allocation waits for a copy out, more is to have left by then. While none comes in since
    there is no room for the next, one that is needed later may find some.

    Args:
        problem: the trace and the machine.
        choice: what the simulated plan was made from.
        simulation: of that plan.

    Yields:
        Choices that differ from it.
    """
    if not simulation.stalls:
        return
    # What is late need not be early for what waits anyway.
    stalled = Timeline.of(simulation)
    yield replace(choice, timeline=stalled)
    yield replace(choice, timeline=stalled, extra=(), banned=())
    yield from _into_gaps(problem, choice, simulation)
    longest = sorted(simulation.stalls, key=lambda stall: (-stall.seconds, stall.op))
    # All that came late in one phase, such as parameters in the update.
    for phase in ("update", "backward", "forward"):
        late = [
            interval
            for stall in longest
            if stall.cause != "copy out late" and problem.phase(stall.op) == phase
            for interval in _late(problem, stall)
        ]
        if late:
            yield choice.without(*late)
            yield replace(choice.without(*late), timeline=stalled)
            yield choice.without(*late[: -(-len(late) // 3)])
    over = np.flatnonzero(problem.idle.wrapped >= 0).tolist()
    yield choice.without(*over)
    for stall in longest[:_STALLS]:
        if stall.block is None or stall.cause == "copy out late":
            yield from _more_room(problem, choice, stall)
        else:
            yield from _earlier_back(problem, choice, stall)
    for lead in (0.25, 1.0, 2.0, 4.0, 1e9):
        yield replace(choice, lead=lead)
    for stretch in (0.0, 0.5, 1.0, 1.5, 2.5):
        yield replace(choice, stretch=stretch, timeline=stalled)
    for order in ORDERS:
        for thrifty in (False, True):
            yield replace(choice, order=order, thrifty=thrifty, timeline=stalled)


def _more_room(problem: Problem, choice: Choice, stall: Stall) -> Iterator[Choice]:
    slot = min(2 * stall.op + 1, 2 * problem.ops)
    missing = int(stall.seconds * problem.machine.link.out_bytes_per_second) + 1
    for first in (slot, max(0, slot - 8)):
        yield choice.with_extra(first, slot, missing)


def _earlier_back(problem: Problem, choice: Choice, stall: Stall) -> Iterator[Choice]:
    op, times = stall.op, choice.timeline.times
    for number in _late(problem, stall):
        size = int(problem.idle.bytes[number])
        takes = float(problem.in_seconds[number])
        begin = times[min(2 * op + 1, 2 * problem.ops)]
        for copies in (1.0, 2.0):
            first = int(np.searchsorted(times, begin - copies * takes, "right")) - 1
            yield choice.with_extra(max(first, 0), 2 * op, size)
        yield choice.without(number)


def _late(problem: Problem, stall: Stall) -> list[int]:
    """The intervals at whose end an op had to wait for a block."""
    idle = problem.idle
    late = (idle.block == stall.block) & (idle.before != NEVER)
    late &= (idle.before == stall.op) | (idle.before == stall.op + problem.ops)
    found: list[int] = np.flatnonzero(late).tolist()
    return found


def _into_gaps(problem: Problem, choice: Choice, simulation: Simulation) -> Iterator[Choice]:
    """Fills the longest times in which nothing comes in with what comes in after them."""
    coming = sorted(
        (copy for copy in simulation.copies if copy.direction == "in"),
        key=lambda copy: copy.begun_seconds,
    )
    ends = [0.0, *(copy.ended_seconds for copy in coming)]
    gaps = sorted(
        (begun - copy.begun_seconds, place)
        for place, (begun, copy) in enumerate(zip(ends[:-1], coming, strict=True))
    )
    for negative_seconds, place in gaps[:_GAPS]:
        there_seconds = -negative_seconds
        fills: dict[int, int] = {}
        for copy in sorted(coming[place:], key=lambda copy: (-copy.bytes, copy.begun_seconds)):
            for number, op in _out_at(problem, copy.block, ends[place], simulation):
                if problem.in_seconds[number] <= there_seconds and number not in fills:
                    there_seconds -= float(problem.in_seconds[number])
                    fills[number] = op
        for count in (len(fills), len(fills) // 2):
            if count:
                yield replace(choice, early=(*choice.early, *islice(fills.items(), count)))


def _out_at(
    problem: Problem, block: int, moment: float, simulation: Simulation
) -> Iterator[tuple[int, int]]:
    """The intervals in which a block is out after a moment, and the first op that finds it so."""
    idle, begins, ends = problem.idle, simulation.op_begin_seconds, simulation.op_end_seconds
    for number in np.flatnonzero((idle.block == block) & (idle.before != NEVER)).tolist():
        after = int(idle.after[number])
        left = ends[after] if after >= 0 else 0.0
        op = bisect_left(begins, max(moment, left + float(problem.out_seconds[number])))
        if op < min(problem.ops, idle.before[number]):
            yield number, op
