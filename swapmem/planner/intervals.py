"""Where blocks could leave: their idle intervals, between one use and the next."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from swapmem.planner.trace import Block, Trace

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """The slots of intervals: from `low` to `high`, and from 0 to `wrapped` of the next iteration.

    `high` may be less than `low`, and `wrapped` -1: then there are none.
    """

    low: Integers
    high: Integers
    wrapped: Integers

    def bytes_in(self, slots: int, sizes: Integers) -> Integers:
        """The sum of the sizes of all intervals that cover each slot."""
        change = np.zeros(slots + 1, np.int64)
        part = self.low <= self.high
        np.add.at(change, self.low[part], sizes[part])
        np.subtract.at(change, self.high[part] + 1, sizes[part])
        part = self.wrapped >= 0
        change[0] += sizes[part].sum()
        np.subtract.at(change, self.wrapped[part] + 1, sizes[part])
        return change.cumsum()[:-1]

    def least(self, values: Integers) -> Integers:
        """The least of some values, one for each slot, in the slots of each interval."""
        found = np.minimum(_least(values, self.low, self.high), _MOST)
        return np.minimum(found, _least(values, np.zeros_like(self.low), self.wrapped))


def _least(values: Integers, low: Integers, high: Integers) -> Integers:
    """The least from one index to another, by tables of powers of two; huge for none."""
    length = np.maximum(high - low + 1, 0)
    found = np.full(len(low), _MOST)
    table, step = values, 1
    while True:
        part = (length >= step) & (length < 2 * step)
        found[part] = np.minimum(table[low[part]], table[high[part] + 1 - step])
        if 2 * step > len(values):
            return found
        table = np.minimum(table[:-step], table[step:])
        step *= 2


@dataclass(frozen=True)
class Intervals:
    """All idle intervals of a trace's eligible blocks, one entry of each array for each of them.

    A block is used by the ops that touch it and by the op in or right before which it is allocated.
    While it is swapped out in interval ``j`` it takes nothing in the slots ``low[j]`` to
    ``high[j]``, and, where the interval goes on in the next iteration, in the slots 0 to
    ``wrapped[j]`` as well.

    Attributes:
        ops: how many ops the trace has.
        block: index of the block.
        bytes: its bytes.
        after: the op that uses it last before; -1 for the iteration's begin.
        before: the op that uses it next; of the next iteration from ``ops`` on. ``NEVER`` if the
            block is freed without another use, or never used.
        low: first slot without it.
        high: last slot of this iteration without it.
        wrapped: last slot of the next iteration without it; -1 if the interval ends in this one.
        group: intervals of one block between which nothing writes it share a group: one copy in the
            store serves all of them.
        first: whether it is the first of its group, so that its copy out has to be made.
        clean: whether the copy in the store is good in every iteration, because nothing writes it.
    """

    ops: int
    block: Integers
    bytes: Integers
    after: Integers
    before: Integers
    low: Integers
    high: Integers
    wrapped: Integers
    group: Integers
    first: NDArray[np.bool_]
    clean: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.block)

    def take(self, chosen: NDArray[np.bool_] | Integers) -> Intervals:
        """Some of them, in their order."""
        columns = (
            getattr(self, name)[chosen] for name in self.__dataclass_fields__ if name != "ops"
        )
        return Intervals(self.ops, *columns)

    @property
    def spans(self) -> Spans:
        """The slots without each block."""
        return Spans(self.low, self.high, self.wrapped)

    def covered(self, chosen: NDArray[np.bool_] | Integers) -> Integers:
        """The bytes that some of them keep out in each slot, if each is out for all of it."""
        taken = self.take(chosen)
        return taken.spans.bytes_in(2 * self.ops + 1, taken.bytes)


#: In ``Intervals.before``: the block does not have to come back.
NEVER = np.iinfo(np.int64).max
_MOST = np.iinfo(np.int64).max


def find(trace: Trace) -> Intervals:
    """Lists the idle intervals of all blocks that may be swapped out.

    Args:
        trace: one iteration.

    Returns:
        The intervals, ordered by block and then by time. A block that was there when the iteration
        began and outlives it has one that goes over the iteration's end. So has one that is born in
        the iteration and stands at the begin of the next as another block, which
        ``Block.carried_from`` tells.
    """
    uses, writes = _uses(trace)
    all_heirs = {
        block.carried_from: index
        for index, block in enumerate(trace.blocks)
        if block.carried_from is not None
    }
    heirs = {block: heir for block, heir in all_heirs.items() if trace.blocks[heir].eligible}
    rows: list[_Row] = []
    first_group: dict[int, int] = {}
    handed_on: dict[int, int] = {}
    group = 0
    for index, block in enumerate(trace.blocks):
        if not block.eligible or block.bytes <= 0:
            continue
        maker = block.carried_from
        # Made after the last op, such as the next batch, it could not leave before the begin.
        from_begin = block.born is None and (maker is None or not uses[maker])
        spans = _inside(block, uses[index], len(trace.ops), from_begin)
        heir = index if block.born is None and maker is None else heirs.get(index)
        if block.freed is None and uses[index] and maker is None:
            if heir is not None:
                spans.append(_over_the_end(trace, uses[index][-1], uses[heir], heir))
            elif index not in all_heirs:
                # What becomes of it in the next iteration, the trace does not tell.
                spans.append(_to_the_end(trace, uses[index][-1]))
        # Everything is dirty when born; a write makes the copy in the store useless.
        group += 1
        first_group[index] = group
        never_written = block.born is None and block.freed is None and not writes[index]
        for place, span in enumerate(spans):
            written = place > 0 and span.after in writes[index]
            group += written
            first = written or place == 0
            rows.append(_Row(index, block.bytes, *span, group, first, never_written))
        # What comes back in the next iteration still has the copy that was made in this one.
        if heir is not None and uses[index] and uses[heir] and uses[heir][0] not in writes[heir]:
            handed_on[heir] = group
    same = {first_group[heir]: group for heir, group in handed_on.items()}
    rows = [
        row._replace(group=same[row.group], first=row.group == same[row.group] and row.first)
        if row.group in same
        else row
        for row in rows
    ]
    columns = [np.array([row[i] for row in rows], np.int64) for i in range(len(_Row._fields))]
    numbers, sizes, after, before, low, high, wrapped, groups = columns[:8]
    flags = [column.astype(np.bool_) for column in columns[8:]]
    ops = len(trace.ops)
    return Intervals(ops, numbers, sizes, after, before, low, high, wrapped, groups, *flags)


class _Span(NamedTuple):
    after: int
    before: int
    low: int
    high: int
    wrapped: int


class _Row(NamedTuple):
    block: int
    bytes: int
    after: int
    before: int
    low: int
    high: int
    wrapped: int
    group: int
    first: bool
    clean: bool


def _uses(trace: Trace) -> tuple[list[list[int]], list[set[int]]]:
    uses: list[list[int]] = [[] for _ in trace.blocks]
    writes: list[set[int]] = [set() for _ in trace.blocks]
    for index, block in enumerate(trace.blocks):
        # One that is born between two ops stays for the second: nobody may leave in a gap.
        if block.born is not None and block.born < 2 * len(trace.ops):
            uses[index].append(block.born // 2)
    for number, op in enumerate(trace.ops):
        for touched in op.touches:
            if not uses[touched] or uses[touched][-1] != number:
                uses[touched].append(number)
        for written in op.writes:
            writes[written].add(number)
    return uses, writes


def _inside(block: Block, uses: list[int], ops: int, from_begin: bool) -> list[_Span]:
    """The intervals that lie in the iteration."""
    if not uses:
        # There from the begin, and never used: it need not be there at all.
        end = 2 * ops if block.freed is None else block.freed
        return [_Span(-1, NEVER, 0, end, -1)] if from_begin else []
    spans = []
    if from_begin and block.freed is not None:
        spans.append(_Span(-1, uses[0], 0, 2 * uses[0], -1))
    for after, before in itertools.pairwise(uses):
        spans.append(_Span(after, before, 2 * after + 2, 2 * before, -1))
    if block.freed is not None and block.freed >= 2 * uses[-1] + 2:
        spans.append(_Span(uses[-1], NEVER, 2 * uses[-1] + 2, block.freed, -1))
    return spans


def _to_the_end(trace: Trace, last: int) -> _Span:
    return _Span(last, NEVER, 2 * last + 2, 2 * len(trace.ops), -1)


def _over_the_end(trace: Trace, last: int, next_uses: list[int], heir: int) -> _Span:
    """The interval from a block's last use to the first of what it is in the next iteration."""
    ops = len(trace.ops)
    if next_uses:
        return _Span(last, next_uses[0] + ops, 2 * last + 2, 2 * ops, 2 * next_uses[0])
    return _Span(last, NEVER, 2 * last + 2, 2 * ops, trace.blocks[heir].freed or 0)
