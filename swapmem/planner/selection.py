"""What there is to choose from, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swapmem.planner.intervals import NEVER, Integers, Spans
from swapmem.planner.prepared import Prepared, Reals
from swapmem.planner.simulation import Simulation
from swapmem.planner.trace import Machine

Chosen = NDArray[np.bool_]
#: Which of two intervals is used first; see `Problem.keys`.
Order = Literal["furthest", "longest", "largest", "earliest"]


@dataclass(frozen=True)
class Timeline:
    """When things are taken to happen.

    Attributes:
        times: when each slot begins, in seconds, counted from the iteration's begin.
        period_seconds: from the begin of one iteration to that of the next.
    """

    times: Reals
    period_seconds: float

    @staticmethod
    def without_stalls(prepared: Prepared) -> Timeline:
        """Everything as early as its predecessors allow."""
        return Timeline(prepared.times, prepared.compute_seconds)

    @staticmethod
    def of(simulation: Simulation) -> Timeline:
        """As it was simulated. The time of a stall belongs to the slot before its op."""
        begins, ends = simulation.op_begin_seconds, simulation.op_end_seconds
        pairs = zip(begins, ends, strict=True)
        times = np.array([0.0, *(time for pair in pairs for time in pair)])
        return Timeline(times, simulation.seconds)


@dataclass(frozen=True)
class Choice:
    """What a set of swaps is made from.

    Attributes:
        timeline: when ops are taken to run.
        order: which intervals are preferred; see `Problem.keys`.
        stretch: how many times as long as alone a copy may take and still has to hide.
        thrifty: whether what costs no copy, or one instead of two, is preferred to everything else.
        lead: how much earlier than necessary a copy in is asked for, as a multiple of its time.
        extra: (first slot, last slot, bytes): what is to be out there beside what must.
        banned: intervals that are used only if nothing else does.
        early: (interval, op): what is asked for at that op, or as soon after as there is room.
    """

    timeline: Timeline
    order: Order
    stretch: float
    lead: float
    thrifty: bool = False
    extra: tuple[tuple[int, int, int], ...] = ()
    banned: tuple[int, ...] = ()
    early: tuple[tuple[int, int], ...] = ()

    @property
    def saving_seconds(self) -> float:
        """How much a copy weighs in the keys: more than all else, or nothing."""
        return 4 * self.timeline.period_seconds * self.thrifty

    def with_extra(self, first: int, last: int, size: int) -> Choice:
        """The same with more to be out from one slot to another."""
        return replace(self, extra=(*self.extra, (first, last, size)))

    def without(self, *intervals: int) -> Choice:
        """The same without some intervals."""
        return replace(self, banned=tuple(dict.fromkeys((*self.banned, *intervals))))


class Problem:
    """A trace and a machine, prepared for many tries to choose intervals.

    Attributes:
        idle: all idle intervals.
        live: bytes in each slot.
        out_seconds: of each interval's copy out, alone on the link.
        in_seconds: of its copy in; 0 if it never returns.
        budget_bytes: of the machine.
    """

    def __init__(self, prepared: Prepared, machine: Machine) -> None:
        self.machine = machine
        self._phases = [op.phase for op in prepared.trace.ops]
        self.budget_bytes = machine.budget_bytes
        self.ops = len(prepared.trace.ops)
        self.live = prepared.live
        idle = prepared.idle
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

    def phase(self, op: int) -> str:
        """Of an op; "" for the iteration's end."""
        return self._phases[op] if op < self.ops else ""

    def due(self, timeline: Timeline) -> Reals:
        """When each block is needed again, from this iteration's begin on; inf for never."""
        before = self.idle.before
        later = (before >= self.ops) & (before != NEVER)
        op = np.where(later, before - self.ops, before)
        op[before == NEVER] = 0
        due = timeline.times[np.minimum(2 * op + 1, 2 * self.ops)]
        due = due + later * timeline.period_seconds
        return np.where(before == NEVER, np.inf, due)

    def hidden(self, choice: Choice) -> Spans:
        """The slots in which a block is out if nobody waits for its copies.

        From the first one that begins after the copy out is complete, to the last one after which
        there is still time for the copy in, if each takes ``choice.stretch`` times its time alone.
        """
        idle, stretch, times = self.idle, choice.stretch, choice.timeline.times
        ready = times[2 * idle.after + 2] + stretch * self.out_seconds
        low = np.maximum(idle.low, np.searchsorted(times, ready))
        over = idle.wrapped >= 0
        # The copy in is asked for when an op begins: in an odd slot. The even one before is free.
        latest = self.due(choice.timeline) - stretch * self.in_seconds
        latest[np.isinf(latest)] = times[-1]
        begins = times[1::2]
        inside = 2 * (np.searchsorted(begins, np.where(over, np.inf, latest), "right") - 1)
        again = 2 * (np.searchsorted(begins, latest - choice.timeline.period_seconds, "right") - 1)
        never = idle.before == NEVER
        high = np.where(over | never, idle.high, np.minimum(idle.high, inside))
        wrapped = np.where(over & ~never, np.minimum(idle.wrapped, again), idle.wrapped)
        return Spans(low, np.maximum(high, low - 1), np.maximum(wrapped, -1))

    def keys(self, choice: Choice) -> Reals:
        """What orders the intervals, the least first.

        "furthest" lets go what is needed again last, and of two such the larger; "longest" what
        is idle longest beside its copies; "largest" the most bytes; "earliest" what can leave
        first. Being thrifty comes before all of that.
        """
        idle = self.idle
        times, period = choice.timeline.times, choice.timeline.period_seconds
        due = self.due(choice.timeline)
        until = np.where(np.isinf(due), 2 * period, due)
        tie = idle.bytes / max(int(idle.bytes.max(initial=1)), 1)
        since = times[2 * idle.after + 2]
        key: Reals
        if choice.order == "largest":
            key = -period * tie
        elif choice.order == "longest":
            key = self.out_seconds + self.in_seconds - (until - since)
        else:
            key = (-until if choice.order == "furthest" else since) - 1e-9 * period * tie
        return key + choice.saving_seconds * self.copies

    @property
    def copies(self) -> Integers:
        """How many copies each interval costs, if it is the only one of its block."""
        pays = self.idle.first & ~self.idle.clean
        copies: Integers = pays.astype(np.int64) + (self.idle.before != NEVER)
        return copies

    def covered(self, chosen: Chosen, spans: Spans) -> Integers:
        """The bytes that the chosen intervals keep out in each slot, by the slots given."""
        part = Spans(spans.low[chosen], spans.high[chosen], spans.wrapped[chosen])
        return part.bytes_in(len(self.live), self.idle.bytes[chosen])
