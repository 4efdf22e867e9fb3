"""Why compute waited: read from what was copied while it did, and from what the plan had asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from swapmem.explain import spans
from swapmem.explain.timeline import Cause, Copy, Tier
from swapmem.planner.plan import Plan, Swap
from swapmem.sizes import format_bytes

# The engine notes the end of a wait a moment after the copy that ended it.
_MOMENT_SECONDS = 1e-3


def milliseconds(seconds: float) -> str:
    """Writes a time of this scale, such as "12.3 ms"."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


@dataclass(frozen=True)
class Finding:
    """What a wait was for."""

    cause: Cause
    why: str
    block: int | None


class Causes:
    """Finds causes in one measured iteration.

    Args:
        plan: what the iteration followed; None if it followed none.
        touches: for each op of the trace the blocks that it touches.
        op_begins: for each op of the trace that ran, when it began: index to seconds.
        seconds: how long the iteration was.
        outs: copies to the store, by their begin.
        ins: copies from the store, by their begin.
        device: what it holds, and its budget.
    """

    def __init__(
        self,
        plan: Plan | None,
        touches: Sequence[Sequence[int]],
        op_begins: dict[int, float],
        seconds: float,
        outs: Sequence[Copy],
        ins: Sequence[Copy],
        device: Tier,
    ) -> None:
        self._planned = plan is not None
        self._swaps: dict[int, list[Swap]] = {}
        for swap in () if plan is None else plan.swaps:
            self._swaps.setdefault(swap.block, []).append(swap)
        self._op_begins = op_begins
        self._touches = touches
        self._op_count = len(touches)
        self._seconds = seconds
        self._outs = outs
        self._ins = ins
        self._device = device

    def of_data(self, begin_seconds: float, end_seconds: float, op: int | None) -> Finding | None:
        """An op waited for blocks that it touches; None if none came in meanwhile."""
        ended = _ended_within(self._ins, begin_seconds, end_seconds)
        if op is not None:
            # Fetches for later ops end meanwhile as well. A block without a number may be its own.
            ended = [c for c in ended if c.block is None or c.block in self._touches[op]]
        if not ended:
            return None
        copy = ended[0]
        what = f"waited for {copy.name}, {format_bytes(copy.bytes)}"
        if len(ended) > 1:
            what += f", and {len(ended) - 1} more"
        took = milliseconds(copy.end_seconds - copy.begin_seconds)
        asked = self._asked_seconds(copy, op, end_seconds)
        if asked is None:
            why = f"{what}: nothing fetched it ahead of need; its copy in took {took}"
            if self._planned:
                why = f"{what}: the plan does not fetch it for this op; its copy in took {took}"
            return Finding("no plan", why, copy.block)
        ahead = milliseconds(max(begin_seconds - asked, 0.0))
        late = copy.begin_seconds - asked
        if late <= max(_MOMENT_SECONDS, (copy.end_seconds - copy.begin_seconds) / 4):
            rate = copy.bytes / max(copy.end_seconds - copy.begin_seconds, 1e-9)
            why = f"{what}: asked for {ahead} ahead, its copy in took {took} "
            return Finding("copy in late", why + f"at {format_bytes(rate)}/s", copy.block)
        others = [c for c in self._ins if c is not copy and c.begin_seconds < copy.begin_seconds]
        waiting = (asked, copy.begin_seconds)
        busy = spans.overlap([waiting], [(c.begin_seconds, c.end_seconds) for c in others])
        count = sum(c.end_seconds > asked for c in others)
        why = f"{what}: asked for {ahead} ahead, but its copy in began {milliseconds(late)} later, "
        if busy >= late / 2:
            copies = "1 other copy" if count == 1 else f"{count} other copies"
            why += f"as the lane was busy with {copies} in for {milliseconds(busy)} of it"
        elif self._room_bytes(*waiting) < copy.bytes:
            why += "as the budget had no room for it before"
        else:
            why += "although the lane was idle and the arrays left room in the budget"
        return Finding("copy in late", why, copy.block)

    def of_memory(self, begin_seconds: float, end_seconds: float, size: int) -> Finding:
        """An allocation, or a copy in, waited until something had left."""
        what = f"waited for memory for {format_bytes(size)}"
        ended = _ended_within(self._outs, begin_seconds, end_seconds)
        if not ended:
            why = f"{what}: blocks had to leave whose copies were still good"
            return Finding("copy out late", why, None)
        copy = ended[0]
        took = milliseconds(copy.end_seconds - copy.begin_seconds)
        if copy.planned:
            why = f"{what}: the copy out of {copy.name}, {format_bytes(copy.bytes)}, took {took} "
            before = max(begin_seconds - copy.begin_seconds, 0.0)
            why += f"and had begun {milliseconds(before)} before"
            return Finding("copy out late", why, copy.block)
        how = "which the plan keeps, had to leave" if self._planned else "had to leave"
        why = f"{what}: {copy.name}, {format_bytes(copy.bytes)}, {how}; its copy out took {took}"
        return Finding("no plan", why, copy.block)

    def _room_bytes(self, begin: float, end: float) -> int:
        """What of the budget the device's arrays left free for all of the time."""
        if self._device.limit_bytes is None:
            return sys.maxsize
        points = self._device.points
        held = [size for time, size in points if begin < time < end]
        held += [size for time, size in points if time <= begin][-1:]
        return self._device.limit_bytes - max(held, default=0)

    def _asked_seconds(self, copy: Copy, op: int | None, end_seconds: float) -> float | None:
        """When the plan asked for a copy in, on the iteration's clock; None if it did not."""
        if copy.block is None:
            return None
        moments = []
        for swap in self._swaps.get(copy.block, ()):
            if swap.fetch_at is None or swap.needed_by is None:
                continue
            if op is not None and swap.needed_by % self._op_count != op:
                continue
            begin = self._op_begins.get(swap.fetch_at % self._op_count)
            if begin is None:
                continue
            # What this iteration needs may have been asked for in the one before.
            before = swap.fetch_at // self._op_count < swap.needed_by // self._op_count
            moments.append(begin - self._seconds if before else begin)
        return max((moment for moment in moments if moment <= end_seconds), default=None)


def _ended_within(copies: Sequence[Copy], begin: float, end: float) -> list[Copy]:
    """The copies that ended in a wait: first the one that took the most of it."""
    ended = [copy for copy in copies if begin < copy.end_seconds <= end + _MOMENT_SECONDS]
    ended.sort(key=lambda copy: copy.end_seconds, reverse=True)
    return sorted(ended, key=lambda copy: max(copy.begin_seconds, begin) - copy.end_seconds)
