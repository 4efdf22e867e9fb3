"""Which idle intervals to use, so that what is live fits the budget in every slot."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swapmem.planner import memory
from swapmem.planner.bounds import Reals, slot_times
from swapmem.planner.intervals import NEVER, Integers, find
from swapmem.planner.trace import Machine, Trace

Chosen = NDArray[np.bool_]
#: Which of two intervals is used first; see `Problem.keys`.
Order = Literal["furthest", "longest", "largest", "earliest"]
ORDERS: tuple[Order, ...] = ("furthest", "longest", "largest", "earliest")


@dataclass(frozen=True)
class Hidden:
    """The slots in which an interval's block is out if nobody waits for its copies.

    Attributes:
        low: first slot that begins after the copy out, alone on the link, is complete.
        high: last slot after which there is still time for the copy in; less than `low` if the
            interval is too short to hide both.
        wrapped: the same for the next iteration's part; -1 without one.
    """

    low: Integers
    high: Integers
    wrapped: Integers


@dataclass(frozen=True)
class Choice:
    """What a set of swaps is made from.

    Attributes:
        order: which intervals are preferred; see `Problem.keys`.
        stretch: how many times as long as alone a copy may take and still has to hide.
        lead: how much earlier than necessary a copy in is asked for, as a multiple of its time.
        extra: (first slot, last slot, bytes): what is to be out there beside what must.
        banned: intervals that are used only if nothing else does.
    """

    order: Order
    stretch: float
    lead: float
    extra: tuple[tuple[int, int, int], ...] = ()
    banned: tuple[int, ...] = ()

    def with_extra(self, first: int, last: int, size: int) -> Choice:
        """The same with more to be out from one slot to another."""
        return replace(self, extra=(*self.extra, (first, last, size)))

    def without(self, interval: int) -> Choice:
        """The same without an interval."""
        return replace(self, banned=(*self.banned, interval))


class Problem:
    """A trace and a machine, prepared for many tries to choose intervals.

    Attributes:
        idle: all idle intervals.
        live: bytes in each slot.
        times: when each slot begins if nothing stalls, in seconds.
        out_seconds: of each interval's copy out, alone on the link.
        in_seconds: of its copy in; 0 if it never returns.
        budget_bytes: of the machine.
    """

    def __init__(self, trace: Trace, machine: Machine) -> None:
        self.trace = trace
        self.machine = machine
        self.budget_bytes = machine.budget_bytes
        self.ops = len(trace.ops)
        self.live = np.array(memory.profile(trace), np.int64)
        self.times: Reals = slot_times(trace)
        self.period = float(self.times[-1]) + trace.tail_seconds
        idle = find(trace)
        # An interval in which there is always room serves nothing.
        near = self.live > machine.budget_bytes - machine.budget_bytes // 4
        steps = np.concatenate(([0], near.cumsum()))
        full = steps[idle.high + 1] - steps[idle.low] + steps[idle.wrapped + 1]
        self.idle = idle.take(full > 0)
        link = machine.link
        out_rate = min(link.out_bytes_per_second, link.duplex_out_bytes_per_second)
        in_rate = min(link.in_bytes_per_second, link.duplex_in_bytes_per_second)
        self.out_seconds = self.idle.bytes / out_rate + link.latency_seconds
        self.out_seconds[self.idle.clean] = 0.0
        self.in_seconds = self.idle.bytes / in_rate + link.latency_seconds
        self.in_seconds[self.idle.before == NEVER] = 0.0
        self.due = self._due()

    def resident(self, chosen: Chosen) -> Integers:
        """The bytes in each slot if the chosen ones are out for all of their intervals."""
        idle = self.idle
        return self.live - self._covered(chosen, idle.low, idle.high, idle.wrapped)

    def _due(self) -> Reals:
        """When each block is needed again, from this iteration's begin on; inf for never."""
        before = self.idle.before
        later = (before >= self.ops) & (before != NEVER)
        op = np.where(later, before - self.ops, before)
        op[before == NEVER] = 0
        due = self.times[np.minimum(2 * op + 1, 2 * self.ops)] + later * self.period
        return np.where(before == NEVER, np.inf, due)

    def hidden(self, stretch: float = 1.0) -> Hidden:
        """Where copies hide if each takes ``stretch`` times its time alone."""
        idle = self.idle
        ready = self.times[2 * idle.after + 2] + stretch * self.out_seconds
        low = np.maximum(idle.low, np.searchsorted(self.times, ready))
        over = idle.wrapped >= 0
        # The copy in is asked for when an op begins: in an odd slot. The even one before is free.
        latest = self.due - stretch * self.in_seconds
        latest[np.isinf(latest)] = self.times[-1]
        begins = self.times[1::2]
        inside = 2 * (np.searchsorted(begins, np.where(over, np.inf, latest), "right") - 1)
        again = 2 * (np.searchsorted(begins, latest - self.period, "right") - 1)
        never = idle.before == NEVER
        high = np.where(over | never, idle.high, np.minimum(idle.high, inside))
        wrapped = np.where(over & ~never, np.minimum(idle.wrapped, again), idle.wrapped)
        return Hidden(low, np.maximum(high, low - 1), np.maximum(wrapped, -1))

    def keys(self, order: Order) -> Reals:
        """What orders the intervals, the least first.

        "furthest" lets go what is needed again last, and of two such the larger; "longest" what
        is idle longest beside its copies; "largest" the most bytes; "earliest" what can leave
        first.
        """
        idle = self.idle
        until = np.where(np.isinf(self.due), 2 * self.period, self.due)
        tie = idle.bytes / max(int(idle.bytes.max(initial=1)), 1)
        if order == "largest":
            return -tie
        since = self.times[2 * idle.after + 2]
        if order == "longest":
            return self.out_seconds + self.in_seconds - (until - since)
        first = -until if order == "furthest" else since
        return first - 1e-9 * self.period * tie

    def choose(self, choice: Choice) -> Chosen:
        """Chooses intervals so that in every slot what is live fits the budget.

        First of those whose copies hide, and where these are not enough of all.
        """
        idle = self.idle
        must = self.live - self.budget_bytes
        wanted = must.copy()
        for first, last, size in choice.extra:
            wanted[first : last + 1] += size
        keys = self.keys(choice.order)
        hidden = self.hidden(choice.stretch)
        chosen = np.zeros(len(idle), np.bool_)
        usable = np.ones(len(idle), np.bool_)
        usable[list(choice.banned)] = False
        self._sweep(chosen, keys, wanted, usable, hidden.low, hidden.high, hidden.wrapped)
        met = self._covered(chosen, hidden.low, hidden.high, hidden.wrapped) >= wanted
        self._sweep(chosen, keys, must, usable, idle.low, idle.high, idle.wrapped)
        if choice.banned:
            self._sweep(chosen, keys, must, ~usable, idle.low, idle.high, idle.wrapped)
        self._prune(chosen, keys, np.where(met, wanted, must), must, hidden)
        return chosen

    def _covered(
        self, chosen: Chosen, low: Integers, high: Integers, wrapped: Integers
    ) -> Integers:
        change = np.zeros(2 * self.ops + 2, np.int64)
        sizes = self.idle.bytes
        part = chosen & (low <= high)
        np.add.at(change, low[part], sizes[part])
        np.subtract.at(change, high[part] + 1, sizes[part])
        part = chosen & (wrapped >= 0)
        change[0] += sizes[part].sum()
        np.subtract.at(change, wrapped[part] + 1, sizes[part])
        return change.cumsum()[:-1]

    def _sweep(
        self,
        chosen: Chosen,
        keys: Reals,
        wanted: Integers,
        usable: Chosen,
        low: Integers,
        high: Integers,
        wrapped: Integers,
    ) -> None:
        """Goes through the slots and, where too little is out, takes the first of the idle ones."""
        need = (wanted - self._covered(chosen, low, high, wrapped)).tolist()
        if max(need) <= 0:
            return
        free = usable & ~chosen
        head = np.flatnonzero(free & (wrapped >= 0))
        inside = np.flatnonzero(free & (low <= high))
        numbers = np.concatenate((head, inside))
        starts = np.concatenate((np.zeros(len(head), np.int64), low[inside]))
        stops = np.concatenate((wrapped[head], high[inside]))
        order = np.argsort(starts, kind="stable")
        entries = zip(
            starts[order].tolist(),
            stops[order].tolist(),
            keys[numbers[order]].tolist(),
            numbers[order].tolist(),
            strict=True,
        )
        sizes, lows, highs, overs = (
            column.tolist() for column in (self.idle.bytes, low, high, wrapped)
        )
        idle_now: list[tuple[float, int, int]] = []
        ends = [0] * (len(need) + 1)
        taken: set[int] = set()
        entry = next(entries, None)
        out = 0
        for slot, needed in enumerate(need):
            out -= ends[slot]
            while entry is not None and entry[0] <= slot:
                heapq.heappush(idle_now, (entry[2], entry[3], entry[1]))
                entry = next(entries, None)
            while out < needed and idle_now:
                _, number, stop = heapq.heappop(idle_now)
                if stop < slot or number in taken:
                    continue
                taken.add(number)
                out += sizes[number]
                ends[stop + 1] += sizes[number]
                if overs[number] >= 0 and highs[number] > stop and lows[number] <= highs[number]:
                    # Its part before the iteration's end is still to come.
                    ends[lows[number]] -= sizes[number]
                    ends[highs[number] + 1] += sizes[number]
        chosen[list(taken)] = True

    def _prune(
        self, chosen: Chosen, keys: Reals, wanted: Integers, must: Integers, hidden: Hidden
    ) -> None:
        """Gives up what turned out not to be needed, the least preferred first."""
        idle = self.idle
        spare = self._covered(chosen, idle.low, idle.high, idle.wrapped) - must
        spare_hidden = self._covered(chosen, hidden.low, hidden.high, hidden.wrapped) - wanted
        # Where copies do not hide anyway, that they do not is no reason to keep one.
        spare_hidden[spare_hidden < 0] = np.iinfo(np.int64).max // 2
        numbers = np.flatnonzero(chosen)
        for number in numbers[np.argsort(-keys[numbers], kind="stable")].tolist():
            size = idle.bytes[number]
            parts = []
            for array, spans in ((spare, idle), (spare_hidden, hidden)):
                parts.append(array[spans.low[number] : spans.high[number] + 1])
                parts.append(array[: spans.wrapped[number] + 1])
            if all(part.min(initial=size) >= size for part in parts):
                chosen[number] = False
                for part in parts:
                    part -= size
