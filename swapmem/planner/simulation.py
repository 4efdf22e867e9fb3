"""What a simulation finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Stall(NamedTuple):
    """An op that could not begin when everything before it was done.

    Attributes:
        op: index of the op, ``len(trace.ops)`` for what follows the last one.
        seconds: how long.
        block: index of the block that it waited for; None if it waited for room to allocate.
        cause: "copy in late" (the block was on its way), "copy out late" (there was no room yet for
            what was to come) or "no plan" (nobody had asked for the copy).
    """

    op: int
    seconds: float
    block: int | None
    cause: str


class Copy(NamedTuple):
    """A copy that ended in the iteration.

    Attributes:
        block: index of the block.
        direction: "out" or "in".
        asked_seconds: when it was asked for, counted from the iteration's begin; negative if that
            was in the iteration before.
        begun_seconds: when it began.
        ended_seconds: when it was complete.
        bytes: of the block.
    """

    block: int
    direction: str
    asked_seconds: float
    begun_seconds: float
    ended_seconds: float
    bytes: int


@dataclass(frozen=True)
class Simulation:
    """One iteration in the steady state, as it would run. All times count from its begin.

    Attributes:
        seconds: from the iteration's begin to its end.
        compute_seconds: of that, ops and gaps as the trace has them: without stalls, and without
            what the copies slow ops down.
        peak_bytes: the most resident bytes at any time, never more than the budget.
        out_bytes: of the copies out that ended in the iteration.
        in_bytes: of the copies in.
        stall_seconds: the sum over `stalls`.
        stalls: in order of time.
        misses: copies that no plan asked for: blocks that left because there was no room and none
            to come, and blocks that were touched while out and not on their way.
        miss_bytes: their bytes.
        cancelled: copies out that were given up because the block was needed again.
        op_begin_seconds: when each op began, its stall behind it.
        op_end_seconds: when each op ended.
        copies: in the order in which they ended.
        curve: (seconds, resident bytes) after each change.
    """

    seconds: float
    compute_seconds: float
    peak_bytes: int
    out_bytes: int
    in_bytes: int
    stall_seconds: float
    stalls: tuple[Stall, ...]
    misses: int
    miss_bytes: int
    cancelled: int
    op_begin_seconds: tuple[float, ...]
    op_end_seconds: tuple[float, ...]
    copies: tuple[Copy, ...]
    curve: tuple[tuple[float, int], ...]
