"""Chooses idle intervals so that what is live fits the budget in every slot."""

from __future__ import annotations

import heapq

import numpy as np

from swapmem.planner.intervals import NEVER, Integers, Spans
from swapmem.planner.selection import Choice, Chosen, Problem


def choose(problem: Problem, choice: Choice) -> Chosen:
    """Chooses first of those intervals whose copies hide, and where these are not enough of all.

    Args:
        problem: the trace and the machine.
        choice: the rules.

    Returns:
        Which of the problem's intervals are used. With them out, no slot holds more than the
        budget.
    """
    must = problem.live - problem.budget_bytes
    wanted = must.copy()
    for first, last, size in choice.extra:
        wanted[first : last + 1] += size
    usable = np.ones(len(problem.idle), np.bool_)
    usable[list(choice.banned)] = False
    cover = _Cover(problem, choice)
    hidden = cover.hidden
    cover.sweep(hidden, wanted, usable)
    met = problem.covered(cover.chosen, hidden) >= wanted
    cover.sweep(problem.idle.spans, must, usable)
    if choice.banned:
        cover.sweep(problem.idle.spans, must, ~usable)
    cover.prune(np.where(met, wanted, must), must)
    return cover.chosen


class _Cover:
    """A set of intervals that grows until it is enough, and then loses what is too much."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem = problem
        self.chosen: Chosen = np.zeros(len(problem.idle), np.bool_)
        self.hidden = problem.hidden(choice)
        self.keys = problem.keys(choice)
        self.saving_seconds = choice.saving_seconds
        # Groups of which one is chosen: a copy is in the store, the next of it leaves at once.
        self.stored: set[int] = set()

    def sweep(self, spans: Spans, wanted: Integers, usable: Chosen) -> None:
        """Goes through the slots and, where too little is out, takes the first of the idle ones.

        Args:
            spans: the slots in which each interval counts.
            wanted: bytes that have to be out in each slot.
            usable: which intervals may be taken.
        """
        need = (wanted - self.problem.covered(self.chosen, spans)).tolist()
        if max(need) <= 0:
            return
        idle = self.problem.idle
        sizes, groups = idle.bytes.tolist(), idle.group.tolist()
        repeats = (~idle.first & ~idle.clean).tolist()
        dead = (idle.before == NEVER).tolist()
        lows, highs, overs = spans.low.tolist(), spans.high.tolist(), spans.wrapped.tolist()
        idle_now: list[tuple[float, int, int]] = []
        ends = [0] * (len(need) + 1)
        out = 0

        def take(number: int, slot: int, stop: int) -> None:
            nonlocal out
            self.chosen[number] = True
            self.stored.add(groups[number])
            out += sizes[number]
            ends[stop + 1] += sizes[number]
            if overs[number] >= 0 and highs[number] > stop and lows[number] <= highs[number]:
                # Its part before the iteration's end is still to come.
                ends[lows[number]] -= sizes[number]
                ends[highs[number] + 1] += sizes[number]

        entries = iter(self._entries(spans, usable))
        entry = next(entries, None)
        for slot, needed in enumerate(need):
            out -= ends[slot]
            while entry is not None and entry[0] <= slot:
                _, stop, number, needs_copy = entry
                entry = next(entries, None)
                stored = repeats[number] and groups[number] in self.stored
                if (not needs_copy and not stored) or self.chosen[number]:
                    continue
                if stored and not needs_copy:
                    spans.low[number] = lows[number] = idle.low[number]
                    if dead[number]:
                        # It costs nothing at all.
                        take(number, slot, stop)
                        continue
                key = self.keys[number] - (self.saving_seconds if stored else 0.0)
                heapq.heappush(idle_now, (key, number, stop))
            while out < needed and idle_now:
                _, number, stop = heapq.heappop(idle_now)
                if stop >= slot and not self.chosen[number]:
                    take(number, slot, stop)

    def _entries(self, spans: Spans, usable: Chosen) -> list[tuple[int, int, int, bool]]:
        """First slot, last slot, number, and whether a copy is made first: ordered by slot."""
        idle = self.problem.idle
        free = usable & ~self.chosen
        head = np.flatnonzero(free & (spans.wrapped >= 0))
        inside = np.flatnonzero(free & (spans.low <= spans.high))
        again = np.flatnonzero(free & ~idle.first & ~idle.clean & (idle.low <= spans.high))
        starts = np.concatenate((np.zeros(len(head), np.int64), idle.low[again], spans.low[inside]))
        stops = np.concatenate((spans.wrapped[head], spans.high[again], spans.high[inside]))
        numbers = np.concatenate((head, again, inside))
        copies = np.ones(len(numbers), np.bool_)
        copies[len(head) : len(head) + len(again)] = False
        order = np.argsort(starts, kind="stable")
        columns = (column[order].tolist() for column in (starts, stops, numbers, copies))
        return list(zip(*columns, strict=True))

    def prune(self, wanted: Integers, must: Integers) -> None:
        """Gives up what turned out not to be needed, the least preferred first.

        Args:
            wanted: bytes that have to be out in each slot without anybody waiting.
            must: bytes that have to be out in each slot.
        """
        idle, hidden = self.problem.idle, self.hidden
        spare = self.problem.covered(self.chosen, idle.spans) - must
        spare_hidden = self.problem.covered(self.chosen, hidden) - wanted
        # Where copies do not hide anyway, that they do not is no reason to keep one.
        spare_hidden[spare_hidden < 0] = np.iinfo(np.int64).max // 2
        costs = self.chosen & ~(~idle.first & (idle.before == NEVER))
        least = np.minimum(idle.spans.least(spare), hidden.least(spare_hidden))
        numbers = np.flatnonzero(costs & (least >= idle.bytes))
        for number in numbers[np.argsort(-self.keys[numbers], kind="stable")].tolist():
            size = int(idle.bytes[number])
            if _room(spare, idle.spans, number, size) and _room(spare_hidden, hidden, number, size):
                self.chosen[number] = False
                for array, spans in ((spare, idle.spans), (spare_hidden, hidden)):
                    array[spans.low[number] : spans.high[number] + 1] -= size
                    array[: spans.wrapped[number] + 1] -= size


def _room(spare: Integers, spans: Spans, number: int, size: int) -> bool:
    """Whether there are so many bytes to spare in all slots of an interval."""
    low, high, wrapped = spans.low[number], spans.high[number], spans.wrapped[number]
    if low <= high and spare[low : high + 1].min() < size:
        return False
    return bool(wrapped < 0 or spare[: wrapped + 1].min() >= size)
