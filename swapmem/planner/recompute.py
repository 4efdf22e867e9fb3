"""What a trace would be if some segments kept no intermediate results but computed them again.

The forward ops of a recomputed segment run as before; at its end the blocks go that only its
backward would have needed. Right before the first backward op that needs one of them, the forward
ops run again, as far as needed, and make copies of these blocks, which go one by one as backward
passes them.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from swapmem.planner.paths import outermost, prefixes, runs
from swapmem.planner.repeated import later_runs, turn_of
from swapmem.planner.trace import Change, Op, Trace

#: A block is kept that is so much smaller than the largest that its segment could do without: it
#: would cost a computation and save nothing. The Chainer adapter keeps to the same figure.
SMALL_SHARE = 16


@dataclass(frozen=True)
class Segment:
    """One call of a named part of the model, and what recomputing it would mean.

    Attributes:
        name: its path, as the ops have it or as it begins there.
        first: index of its first forward op.
        last: index of its last forward op.
        again: indices of the forward ops that would run again: as far as they are needed.
        blocks: indices of the blocks that would not be stored.
        bytes: their bytes together, free from ``last`` to ``resumes_at``.
        seconds: what the ops that run again take.
        resumes_at: index of the first op that needs one of the blocks.
    """

    name: str
    first: int
    last: int
    again: tuple[int, ...]
    blocks: tuple[int, ...]
    bytes: int
    seconds: float
    resumes_at: int


def candidates(trace: Trace) -> tuple[Segment, ...]:
    """The segments that can be recomputed with a gain of memory, of every level.

    A segment that runs again in backward in this trace already is none of them, nor what is within
    or around it.

    Args:
        trace: one iteration.

    Returns:
        In the order in which they run forward, what is around before what is within. A name is
        there more than once if the iteration calls it more than once; all calls are recomputed or
        none.

    Example:
        >>> [segment.name for segment in candidates(trace)]
        ['stage2.0', 'stage2.0/up', 'stage2.1']
    """
    return _Uses(trace).segments()


def with_recompute(trace: Trace, names: Collection[str]) -> Trace:
    """The trace as it would be with segments recomputed.

    Args:
        trace: one iteration.
        names: of the segments; those that are no candidates change nothing, nor do those within
            others.

    Returns:
        A trace with the same blocks in front, under the same indices, and after them those that the
        ops make which run again. Op indices are those that ``positions`` returns. A block left over
        from the iteration before of which nothing would be left over stays, with 0 bytes.

    Example:
        >>> smaller = with_recompute(trace, {"stage2.0"})
        >>> len(smaller.ops) - len(trace.ops) == len(candidates(trace)[0].again)
        True
    """
    return with_segments(trace, _named(trace, names))


def with_segments(trace: Trace, segments: Sequence[Segment]) -> Trace:
    """The same as `with_recompute`, for segments that are known already.

    Args:
        trace: one iteration.
        segments: some of its `candidates`, in their order, none of them within another.

    Returns:
        The trace with them; the same one without any.
    """
    return _Rewrite(trace, segments).trace() if segments else trace


def positions(trace: Trace, names: Collection[str]) -> list[int]:
    """Where the ops of a trace stand in the trace with segments recomputed.

    Args:
        trace: one iteration.
        names: of the segments.

    Returns:
        For each op its index in ``with_recompute(trace, names)``.
    """
    return _positions(trace, _named(trace, names))


def _named(trace: Trace, names: Collection[str]) -> list[Segment]:
    chosen = outermost(names)
    return [segment for segment in candidates(trace) if segment.name in chosen]


def _positions(trace: Trace, segments: Sequence[Segment]) -> list[int]:
    extra: dict[int, int] = defaultdict(int)
    for segment in segments:
        extra[segment.resumes_at] += len(segment.again)
    found, shift = [], 0
    for index in range(len(trace.ops)):
        shift += extra[index]
        found.append(index + shift)
    return found


class _Uses:
    """Which ops of a trace use which block, and which ops make up which segment."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._users: dict[int, list[int]] = defaultdict(list)
        for index, op in enumerate(trace.ops):
            for block in op.touches:
                self._users[block].append(index)
        self._born_in: dict[int, list[int]] = defaultdict(list)
        for index, block_ in enumerate(trace.blocks):
            if block_.born is not None and block_.born % 2:
                self._born_in[block_.born // 2].append(index)

    def segments(self) -> tuple[Segment, ...]:
        ops = self._trace.ops
        backward = turn_of(ops)
        again = {name for name, _ in later_runs(ops)}
        around = {prefix for name in again for prefix in prefixes(name)}
        found = (
            self._segment(name, first, last, backward)
            for name, first, last in runs([op.segment for op in ops[:backward]])
            if name not in around and again.isdisjoint(prefixes(name))
        )
        return tuple(segment for segment in found if segment is not None)

    def _segment(self, name: str, first: int, last: int, backward: int) -> Segment | None:
        needed = {
            block: later
            for index in range(first, last + 1)
            for block in self._born_in[index]
            if (later := self._resumes_at(block, last, backward)) is not None
        }
        blocks = self._trace.blocks
        largest = max((blocks[block].bytes for block in needed), default=0)
        dropped = [b for b in needed if blocks[b].bytes * SMALL_SHARE > largest]
        if not dropped:
            return None
        maker = max(born for b in dropped if (born := blocks[b].born) is not None) // 2
        again = tuple(range(first, maker + 1))
        return Segment(
            name,
            first,
            last,
            again,
            tuple(dropped),
            sum(blocks[b].bytes for b in dropped),
            sum(self._trace.ops[i].seconds + self._trace.ops[i].gap_seconds for i in again),
            min(needed[b] for b in dropped),
        )

    def _resumes_at(self, block: int, last: int, backward: int) -> int | None:
        """The first backward op that needs a block which only backward needs after ``last``."""
        later = next((user for user in self._users[block] if user > last), -1)
        # What forward reads outside the segment is its result; that stays.
        return later if later >= backward and self._trace.blocks[block].eligible else None


def _slot(change: Change) -> int:
    return change.slot


class _Rewrite:
    """Makes the trace with some segments recomputed."""

    def __init__(self, trace: Trace, segments: Sequence[Segment]) -> None:
        self._old = trace
        self._at: dict[int, list[Segment]] = defaultdict(list)
        for segment in segments:
            self._at[segment.resumes_at].append(segment)
        # Ops that run again come after what happens between two ops.
        self._slots = [0]
        for position in _positions(trace, segments):
            self._slots += [2 * position + 1, 2 * position + 2]
        self._blocks = list(trace.blocks)
        self._dropped = {block: segment for segment in segments for block in segment.blocks}
        # For a dropped block, once there is one, that which backward finds in its place.
        self._again: dict[int, int] = {}
        self._ops: list[Op] = []
        # By slot, in order: what goes first, what the trace has, what recomputing adds.
        self._changes: dict[int, tuple[list[Change], ...]] = defaultdict(lambda: ([], [], []))
        self._last_use = {b: i for i, op in enumerate(trace.ops) for b in op.touches}

    def trace(self) -> Trace:
        self._shift()
        for index, op in enumerate(self._old.ops):
            for segment in self._at[index]:
                self._repeat(segment)
            if not self._again.keys().isdisjoint(op.touches):
                op = replace(
                    op,
                    touches=tuple(self._again.get(block, block) for block in op.touches),
                    writes=tuple(self._again.get(block, block) for block in op.writes),
                )
            self._ops.append(op)
        changes = [
            change
            for slot in sorted(self._changes)
            for part in self._changes[slot]
            for change in part
        ]
        return replace(
            self._old, ops=tuple(self._ops), blocks=tuple(self._blocks), changes=tuple(changes)
        )

    def _shift(self) -> None:
        """Carry over blocks and changes; dropped blocks go at the end of their segment."""
        slots = self._slots
        for number, block in enumerate(self._old.blocks):
            born = None if block.born is None else slots[block.born]
            freed = None if block.freed is None else slots[block.freed]
            if number in self._dropped:
                freed = slots[2 * self._dropped[number].last + 2]
                self._changes[freed][0].append(Change(freed, number, False))
            if (born, freed) != (block.born, block.freed):
                self._blocks[number] = replace(block, born=born, freed=freed)
            if block.carried_from in self._dropped:
                self._blocks[number] = replace(self._blocks[number], bytes=0, carried_from=None)
        for change in self._old.changes:
            if change.allocates or change.block not in self._dropped:
                slot = slots[change.slot]
                moved = Change(slot, change.block, change.allocates)
                self._changes[slot][1].append(moved)

    def _repeat(self, segment: Segment) -> None:
        """Run a segment's forward ops again, before the op that comes next."""
        begin = len(self._ops)
        low, high = 2 * segment.first + 1, 2 * segment.again[-1] + 2
        offset = 2 * (begin - segment.first)
        end = high + offset
        copies: dict[int, int] = {}
        changes = self._old.changes
        start = bisect.bisect_left(changes, low, key=_slot)
        for change in changes[start : bisect.bisect_left(changes, high, key=_slot)]:
            if change.allocates:
                copies[change.block] = len(self._blocks)
                self._copy(change.block, change.slot + offset)
            elif change.block in copies:
                self._free(copies[change.block], change.slot + offset)
        for block, copy in copies.items():
            if block in self._dropped:
                self._again[block] = copy
                self._free(copy, self._slots[2 * self._last_use[block] + 2])
            elif self._blocks[copy].freed is None:
                # What the segment returns is there already: this one is let go.
                self._free(copy, end)
        for index in segment.again:
            op = self._old.ops[index]
            for block in op.touches:
                if block not in copies:
                    self._keep_until(block, end)
            self._ops.append(
                replace(
                    op,
                    touches=tuple(copies.get(block, block) for block in op.touches),
                    writes=tuple(copies[block] for block in op.writes if block in copies),
                )
            )

    def _copy(self, block: int, born: int) -> None:
        self._changes[born][2].append(Change(born, len(self._blocks), True))
        old = self._old.blocks[block]
        self._blocks.append(replace(old, born=born, freed=None, name=f"{old.name} again"))

    def _free(self, block: int, slot: int) -> None:
        self._changes[slot][2].append(Change(slot, block, False))
        self._blocks[block] = replace(self._blocks[block], freed=slot)

    def _keep_until(self, block: int, slot: int) -> None:
        """What a segment works on is kept for it; free it no sooner than there."""
        freed = self._blocks[block].freed
        if freed is not None and freed < slot:
            for part in self._changes[freed]:
                part[:] = [c for c in part if c.allocates or c.block != block]
            self._free(block, slot)
