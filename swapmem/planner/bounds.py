"""What no plan can beat: the least bytes that must move, and the time they and the ops take."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swapmem.planner.intervals import NEVER, Integers, Intervals
from swapmem.planner.phases import phases_seconds, rates_alone
from swapmem.planner.prepared import Prepared, prepare
from swapmem.planner.trace import Machine, Rates, Trace


@dataclass(frozen=True)
class Bound:
    """What every plan for a trace at a budget needs.

    Attributes:
        seconds: no iteration can be shorter: the largest of the three that follow.
        compute_seconds: all ops and gaps.
        link_seconds: the least bytes at the link's rates, both directions at once where that is
            faster; with what ops lose while copies run.
        phases_seconds: before a full moment what is too much has to leave, and after the same or a
            later one what is needed again has to return; neither can be done in the other's time,
            nor in that of the ops between.
        out_bytes: the least bytes copied out in an iteration.
        in_bytes: the least bytes copied in.
        excess_bytes: by how much the live bytes exceed the budget at the fullest moment.
    """

    seconds: float
    compute_seconds: float
    link_seconds: float
    phases_seconds: float
    out_bytes: int
    in_bytes: int
    excess_bytes: int


def lower_bound(trace: Trace, machine: Machine | None = None) -> Bound:
    """Computes what no plan can beat.

    In each slot the live bytes above the budget must be out. A block can be out only in its idle
    intervals; a fraction of a block counts here, so that the least bytes can be computed exactly,
    by letting go what is needed again last.

    Args:
        trace: one iteration.
        machine: another machine than the one it was recorded on.

    Returns:
        The bound, in seconds and in bytes.

    Example:
        >>> bound = lower_bound(trace)
        >>> assert simulate(trace, make_plan(trace).swaps).seconds >= bound.seconds
    """
    return bound_of(prepare(trace), machine or trace.machine)


def bound_of(prepared: Prepared, machine: Machine) -> Bound:
    """The same as `lower_bound`, for a trace that is prepared already."""
    trace, idle = prepared.trace, prepared.idle
    excess = np.maximum(prepared.live - machine.budget_bytes, 0)
    compute = prepared.compute_seconds
    out_bytes = max(_least_out(idle, excess), _copied_once(trace, idle, excess))
    in_bytes = _least_in(idle, excess)
    link = _link_seconds(trace, machine.link, compute, out_bytes, in_bytes)
    if machine.behind is not None and machine.store_bytes is not None:
        further = _beyond_store(idle, excess, machine.store_bytes)
        behind = _both_ways(machine.behind, further, further)
        link = max(link, behind)
    phases = phases_seconds(prepared, excess, machine.link)
    return Bound(
        seconds=max(compute, link, phases),
        compute_seconds=compute,
        link_seconds=link,
        phases_seconds=phases,
        out_bytes=out_bytes,
        in_bytes=in_bytes,
        excess_bytes=int(excess.max()),
    )


def _least_in(idle: Intervals, excess: Integers) -> int:
    """A block that goes over the iteration's end is paid for in one of its two parts only.

    Either choice bounds from below: a part that is free cannot make the other dearer.
    """
    returns = idle.before != NEVER
    return max(
        _least_bytes(idle, excess, head=returns, tail=returns & (idle.wrapped < 0)),
        _least_bytes(idle, excess, head=returns & (idle.wrapped < 0), tail=returns),
    )


def _least_out(idle: Intervals, excess: Integers) -> int:
    """A copy in the store serves the whole group: only the longest interval is paid for."""
    length = idle.high - idle.low + 1 + (idle.wrapped + 1)
    order = np.lexsort((length, idle.group))
    pays = np.zeros(len(idle), np.bool_)
    if len(idle):
        groups = idle.group[order]
        pays[order[np.append(groups[1:] != groups[:-1], True)]] = True
    pays &= ~idle.clean
    return max(
        _least_bytes(idle, excess, head=pays, tail=pays & (idle.wrapped < 0)),
        _least_bytes(idle, excess, head=pays & (idle.wrapped < 0), tail=pays),
    )


def _copied_once(trace: Trace, idle: Intervals, excess: Integers) -> int:
    """What is out at one moment was copied out in the iteration, each block once at least.

    That does not hold for what nothing writes, and for what an iteration before has left over. Of
    a block and the one that it is in the next iteration there is one copy, so both are left out of
    account where they live at the same time.
    """
    blocks = trace.blocks
    unpaid = np.zeros(len(blocks), np.bool_)
    for index, block in enumerate(blocks):
        if block.born is None and block.freed is not None:
            maker = index if block.carried_from is None else block.carried_from
            born = blocks[maker].born
            unpaid[[index, maker]] |= born is None or block.freed >= born
    for_nothing = idle.covered(idle.clean | unpaid[idle.block])
    return max(0, int((excess - for_nothing).max()))


def _least_bytes(
    idle: Intervals, excess: Integers, head: NDArray[np.bool_], tail: NDArray[np.bool_]
) -> int:
    """The least bytes, fractions of blocks allowed, that keep ``excess`` out in every slot.

    Letting go what is needed again last is optimal where every byte that costs costs the same.

    Args:
        idle: the intervals.
        excess: what must be out in each slot.
        head: whether an interval costs its bytes; of one that goes over the iteration's end, its
            part in the next iteration.
        tail: whether the part before the iteration's end costs them, of those that go over it.

    Returns:
        Bytes.
    """
    over = idle.wrapped >= 0
    lows = np.concatenate((np.where(over, 0, idle.low), idle.low[over]))
    highs = np.concatenate((np.where(over, idle.wrapped, idle.high), idle.high[over]))
    sizes = np.concatenate((idle.bytes, idle.bytes[over]))
    costs = np.concatenate((head, tail[over]))
    free = np.zeros(len(excess) + 1, np.int64)
    np.add.at(free, lows[~costs], sizes[~costs])
    np.subtract.at(free, highs[~costs] + 1, sizes[~costs])
    need = excess - free.cumsum()[:-1]

    order = np.flatnonzero(costs)[np.argsort(lows[costs], kind="stable")]
    starts, stops, amounts = lows[order].tolist(), highs[order].tolist(), sizes[order].tolist()
    ends = [0] * (len(need) + 1)
    idle_now: list[tuple[int, int]] = []
    out = total = place = 0
    for slot, needed in enumerate(need.tolist()):
        out -= ends[slot]
        while place < len(starts) and starts[place] <= slot:
            heapq.heappush(idle_now, (-stops[place], amounts[place]))
            place += 1
        while out < needed and idle_now and -idle_now[0][0] >= slot:
            stop, amount = heapq.heappop(idle_now)
            taken = min(amount, needed - out)
            if taken < amount:
                heapq.heappush(idle_now, (stop, amount - taken))
            ends[1 - stop] += taken
            out += taken
            total += taken
    return total


def _link_seconds(
    trace: Trace, link: Rates, compute_seconds: float, out_bytes: int, in_bytes: int
) -> float:
    """The bytes' time on the link; ops that run meanwhile take ``slowdown`` times longer."""
    copies = _both_ways(link, out_bytes, in_bytes)
    gaps = compute_seconds - sum(op.seconds for op in trace.ops)
    lost = max(0.0, copies - gaps) * (1 - 1 / max(link.slowdown, 1.0))
    return max(copies, compute_seconds + lost)


def _both_ways(link: Rates, out_bytes: int, in_bytes: int) -> float:
    """The least time for bytes in both directions, one after the other or at once."""
    out_rate, in_rate = rates_alone(link)
    apart = out_bytes / out_rate + in_bytes / in_rate
    together = min(
        out_bytes / link.duplex_out_bytes_per_second, in_bytes / link.duplex_in_bytes_per_second
    )
    rest_out = out_bytes - together * link.duplex_out_bytes_per_second
    rest_in = in_bytes - together * link.duplex_in_bytes_per_second
    return min(apart, together + max(0, rest_out) / out_rate + max(0, rest_in) / in_rate)


def _beyond_store(idle: Intervals, excess: Integers, store_bytes: int) -> int:
    """The bytes that the store cannot hold and that have to come back from behind it."""
    for_ever = idle.covered(idle.before == NEVER)
    return max(0, int((excess - for_ever).max()) - store_bytes)
