"""When each copy in is asked for: no earlier than there is room, no earlier than useful."""

from __future__ import annotations

import numpy as np

from swapmem.planner.intervals import NEVER, Integers
from swapmem.planner.plan import Swap
from swapmem.planner.selection import Choice, Chosen, Problem


def schedule(problem: Problem, chosen: Chosen, choice: Choice) -> list[Swap]:
    """Makes swaps of chosen intervals.

    From the last one needed to the first, the latest begin of each copy in follows, one after
    another on the link. From the first to the last, each is then asked for some time before that,
    but not before there is room for it until it is needed.

    Args:
        problem: the trace and the machine.
        chosen: which of its idle intervals are used.
        choice: how much earlier than necessary, and when ops are taken to run.

    Returns:
        The swaps, in the order of a plan.
    """
    idle = problem.idle
    numbers = np.flatnonzero(chosen)
    fetch_at = _fetch_ops(problem, numbers, problem.live - idle.covered(chosen), choice)
    swaps: list[Swap] = []
    for number, fetch in zip(numbers.tolist(), fetch_at, strict=True):
        before = int(idle.before[number])
        returns = before != NEVER
        swaps.append(
            Swap(
                block=int(idle.block[number]),
                out_after=int(idle.after[number]),
                fetch_at=fetch if returns else None,
                needed_by=before if returns else None,
            )
        )
    return ordered(swaps)


def ordered(swaps: list[Swap]) -> list[Swap]:
    """In the order of a plan; of those that leave after the same op, what is needed first last."""

    def key(swap: Swap) -> tuple[int, int, int]:
        needed = NEVER if swap.needed_by is None else swap.needed_by
        return (swap.out_after, -needed, swap.block)

    return sorted(swaps, key=key)


def _fetch_ops(
    problem: Problem, numbers: Integers, resident: Integers, choice: Choice
) -> list[int]:
    idle, ops, budget = problem.idle, problem.ops, problem.budget_bytes
    times, period = choice.timeline.times, choice.timeline.period_seconds
    begins = np.concatenate((times[1::2], times[1::2] + period))
    latest = _latest_begins(problem, numbers, choice)
    resident = resident.copy()
    found = [0] * len(numbers)
    before = idle.before[numbers]
    early = dict(choice.early)
    earliest = 0
    for place in np.argsort(before, kind="stable").tolist():
        if before[place] == NEVER:
            break
        number = numbers[place]
        need, size = int(before[place]), int(idle.bytes[number])
        room = budget - size
        if number in early:
            fetch = _with_room(resident, early[number], need, ops, room)
        else:
            asked = latest[place] - choice.lead * float(problem.in_seconds[number])
            useful = int(np.searchsorted(begins, asked, "right")) - 1
            gone = times[2 * idle.after[number] + 2] + problem.out_seconds[number]
            first = int(np.searchsorted(begins, gone))
            first = max(useful, min(first, need), int(idle.after[number]) + 1)
            fetch = _with_room(resident, first, need, ops, room)
            # Copies in are served in the order in which they are asked for.
            fetch = min(need, max(fetch, earliest))
            earliest = fetch
        _add(resident, fetch, need, ops, size)
        found[place] = fetch
    return found


def _latest_begins(problem: Problem, numbers: Integers, choice: Choice) -> list[float]:
    """When each copy in has to begin, so that none is late, one after another on the link."""
    due = problem.due(choice.timeline)[numbers]
    latest = [0.0] * len(numbers)
    free = np.inf
    for place in np.argsort(-due, kind="stable").tolist():
        if np.isfinite(due[place]):
            free = min(free, float(due[place])) - float(problem.in_seconds[numbers[place]])
            latest[place] = free
    return latest


def _parts(fetch: int, need: int, ops: int) -> list[slice]:
    """The slots from the begin of one op up to another, which may lie in the next iteration."""
    if need < ops:
        return [slice(2 * fetch + 1, 2 * need + 1)]
    over = slice(max(0, 2 * (fetch - ops) + 1), 2 * (need - ops) + 1)
    return [slice(2 * fetch + 1, 2 * ops + 1), over] if fetch < ops else [over]


def _with_room(resident: Integers, first: int, need: int, ops: int, room: int) -> int:
    """The first op from which on the block can be resident until it is needed."""
    parts = _parts(first, need, ops)
    for place in range(len(parts) - 1, -1, -1):
        full = np.flatnonzero(resident[parts[place]] > room)
        if len(full):
            slot = parts[place].start + int(full[-1])
            # The op that begins after the full slot.
            op: int = (slot + 1) // 2
            return op + ops if need >= ops and place == len(parts) - 1 else op
    return first


def _add(resident: Integers, fetch: int, need: int, ops: int, size: int) -> None:
    for part in _parts(fetch, need, ops):
        resident[part] += size
