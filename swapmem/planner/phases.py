"""What must have left before a moment and what must be back after it, and how long that takes."""

from __future__ import annotations

import numpy as np

from swapmem.planner.intervals import NEVER, Integers, Intervals, Spans
from swapmem.planner.prepared import Prepared, Reals
from swapmem.planner.trace import Rates, Trace

# The bound by phases is computed exactly for so many slots of either kind: those where a rougher
# one is largest.
_SLOTS = 32
# And with so many begins of the iteration from either end, where one phase of it follows another.
_CUTS = 3


def rates_alone(link: Rates) -> tuple[float, float]:
    """The best rate in each direction; measured rates may come out higher in duplex."""
    return (
        max(link.out_bytes_per_second, link.duplex_out_bytes_per_second),
        max(link.in_bytes_per_second, link.duplex_in_bytes_per_second),
    )


def phases_seconds(prepared: Prepared, excess: Integers, link: Rates) -> float:
    """The longest time, over two slots, of what must leave before one and return after the other.

    From the first to the second, which may be the same, the ops run one after another: neither
    direction's copies can be made in the time of the other's, nor in that of the ops between. An
    iteration can be taken to begin anywhere, since it is followed by another: what goes over one
    begin has to move in between another one and the next.

    Args:
        prepared: a trace.
        excess: bytes that have to be out in each slot.
        link: between device and store.

    Returns:
        Seconds: no iteration is shorter.
    """
    if not len(prepared.idle):
        return prepared.compute_seconds
    return max(_between(prepared, excess, link, cut) for cut in begins(prepared.trace))


def begins(trace: Trace) -> list[int]:
    """Slots at which an iteration may be taken to begin: the first and the last where phases meet.

    Where forward runs again in backward they meet often, and what lies in the middle adds little.

    Args:
        trace: one iteration.

    Returns:
        Numbers of slots, ascending.
    """
    phases = [op.phase for op in trace.ops]
    changes = [2 * i for i in range(1, len(phases)) if phases[i] != phases[i - 1]]
    return [0, *changes[:_CUTS], *changes[_CUTS:][-_CUTS:]]


def _between(prepared: Prepared, excess: Integers, link: Rates, cut: int) -> float:
    """The longest of these times from one slot, taken as the begin, to the same one later."""
    idle, period = prepared.idle, prepared.compute_seconds
    slots = len(excess)
    out_rate, in_rate = rates_alone(link)
    again = idle.before != NEVER
    turned = np.arange(cut, cut + slots) % slots
    excess = excess[turned]
    times = prepared.times[turned] - prepared.times[cut]
    times[slots - cut :] += period
    low = (idle.low - cut) % slots
    length = np.where(idle.wrapped >= 0, idle.high + 1 + idle.wrapped, idle.high) - idle.low
    high = np.minimum(low + length, slots - 1)
    wrapped = np.where(low + length >= slots, low + length - slots, -1)

    over = wrapped >= 0
    # In each slot: what was out at the begin, and what returns after the end or never.
    was_out = Spans(wrapped + 1, wrapped, wrapped).bytes_in(slots, idle.bytes)
    later = ~again | over
    nothing = np.full_like(low[later], -1)
    stays = Spans(low[later], high[later], nothing).bytes_in(slots, idle.bytes[later])
    gone = over & ~again
    stays += Spans(low[gone] + slots, high[gone], wrapped[gone]).bytes_in(slots, idle.bytes[gone])
    must_leave, must_return = excess - was_out, excess - stays
    # How much later than its ops allow each slot can begin, and how much longer than its ops what
    # follows it takes. A later slot begins later by at least as much.
    late = np.maximum(must_leave / out_rate - times, 0)
    more = np.maximum(must_return / in_rate - (period - times), 0)
    most_late = np.maximum.accumulate(late)
    most_more = np.maximum.accumulate(more[::-1])[::-1]

    release = _releases(idle, times[low])
    # The op that needs a block back runs after it has come, and all that follows as well.
    back = np.where(over, wrapped, high) + 1
    follows = period - np.append(times, period)[back]
    lates, mores = np.zeros(slots), np.zeros(slots)
    for slot in _largest(late + most_more):
        leaves = (low <= slot) & (slot <= high)
        full = _latest(release[leaves], idle.bytes[leaves], int(must_leave[slot]), out_rate)
        lates[slot] = max(full - float(times[slot]), 0)
    for slot in _largest(most_late + more):
        returns = ((low <= slot) & (slot <= high) & ~later) | ((wrapped >= slot) & again)
        empty = _latest(follows[returns], idle.bytes[returns], int(must_return[slot]), in_rate)
        mores[slot] = max(empty - (period - float(times[slot])), 0)
    return period + float((np.maximum.accumulate(lates) + mores).max())


def _largest(values: Reals) -> list[int]:
    found: list[int] = np.argsort(-values, kind="stable")[:_SLOTS].tolist()
    return found


def _releases(idle: Intervals, begins: Reals) -> Reals:
    """When a copy out for each interval can start at the earliest; -inf: before the begin.

    Args:
        idle: the intervals.
        begins: when each of them begins.

    Returns:
        Seconds. The first of a group makes the copy for all of them.
    """
    first = np.full(int(idle.group.max(initial=0)) + 1, np.inf)
    first[idle.group[idle.first]] = begins[idle.first]
    release = first[idle.group]
    release[(release > begins) | idle.clean] = -np.inf
    return release


def _latest(key: Reals, sizes: Integers, must_bytes: int, rate: float) -> float:
    """The largest sum of a key and the time that the bytes of this key and above need.

    Args:
        key: seconds; for copies out when each can start, for copies in how much follows them.
        sizes: the bytes of each.
        must_bytes: how many bytes of all of them have to move.
        rate: bytes per second.

    Returns:
        Seconds; 0 if nothing has to move.
    """
    order = np.argsort(key, kind="stable")
    key, sizes = key[order], sizes[order]
    left = must_bytes - (sizes.cumsum() - sizes)
    found = (left > 0) & np.isfinite(key)
    return float((key[found] + left[found] / rate).max(initial=0.0))
