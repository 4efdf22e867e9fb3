"""Why each block is kept, swapped or recomputed: one line for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from swapmem.planner import intervals
from swapmem.planner.intervals import NEVER
from swapmem.planner.plan import Swap
from swapmem.planner.prepared import Prepared, Reals
from swapmem.planner.recompute import Segment
from swapmem.planner.simulation import Copy, Simulation
from swapmem.planner.trace import Machine
from swapmem.sizes import format_bytes


def explain(
    prepared: Prepared, machine: Machine, swaps: Iterable[Swap], simulation: Simulation
) -> tuple[str, ...]:
    """Says of each block why the plan does with it what it does.

    Args:
        prepared: one iteration.
        machine: what was planned for.
        swaps: of the plan.
        simulation: of an iteration with them.

    Returns:
        A line for each block, in the trace's order, that begins with "kept", "swapped" or
        "not eligible".

    Example:
        >>> explain(prepare(trace), trace.machine, plan.swaps, simulation)[7]
        'swapped: idle 1.2 s, copies 0.11 s, hidden'
    """
    trace, times, period = prepared.trace, prepared.times, prepared.compute_seconds
    full = np.concatenate(([0], (prepared.live > machine.budget_bytes).cumsum()))
    by_block: dict[int, list[Swap]] = defaultdict(list)
    for swap in swaps:
        by_block[swap.block].append(swap)
    copies: dict[int, list[Copy]] = defaultdict(list)
    for copy in simulation.copies:
        copies[copy.block].append(copy)
    waited: dict[int, float] = defaultdict(float)
    for stall in simulation.stalls:
        if stall.block is not None:
            waited[stall.block] += stall.seconds
    longest = _longest_idle(prepared.idle, times, period, full)

    lines = []
    for index, block in enumerate(trace.blocks):
        if not block.eligible:
            line = f"not eligible: {block.reason or 'not every touch of it is announced'}"
        elif index in by_block:
            swapped = by_block[index]
            idle = sum(_idle_seconds(swap, times, period, len(trace.ops)) for swap in swapped)
            line = _swapped(idle, copies[index], waited[index], swapped)
        else:
            line = _kept(block.bytes, longest.get(index), machine, bool(full[-1] > 0))
        lines.append(line)
    return tuple(lines)


def explain_recomputed(reasons: Sequence[str], segments: Iterable[Segment]) -> tuple[str, ...]:
    """The reasons with those of the blocks that are computed again instead of stored.

    Args:
        reasons: a line for each block.
        segments: what is recomputed.

    Returns:
        A line for each block.
    """
    lines = list(reasons)
    for segment in segments:
        for block in segment.blocks:
            lines[block] = (
                f"recomputed: with segment {segment.name}, which takes {segment.seconds:.3g} s "
                f"again and stores {format_bytes(segment.bytes)} less"
            )
    return tuple(lines)


def _idle_seconds(swap: Swap, times: Reals, period: float, ops: int) -> float:
    begin = times[2 * swap.out_after + 2]
    if swap.needed_by is None:
        return float(period - begin)
    later, op = divmod(swap.needed_by, ops)
    return float(times[2 * op + 1] + later * period - begin)


def _swapped(idle: float, copies: Sequence[Copy], waited: float, swaps: Sequence[Swap]) -> str:
    seconds = sum(copy.ended_seconds - copy.begun_seconds for copy in copies)
    text = f"swapped: idle {idle:.3g} s, "
    if not copies:
        return text + "without a copy: the one in the store is still good"
    text += f"copies {seconds:.3g} s, "
    if all(swap.needed_by is None for swap in swaps):
        text += "never needed again, "
    return text + ("hidden" if waited <= 0 else f"{waited:.3g} s of it waited for")


def _kept(
    size: int, idle: tuple[float, bool] | None, machine: Machine, anything_swapped: bool
) -> str:
    if not anything_swapped:
        return "kept: everything fits the budget"
    if idle is None:
        return "kept: in use as long as it lives"
    seconds, helps = idle
    link = machine.link
    copy = size / link.out_bytes_per_second + size / link.in_bytes_per_second
    copy += 2 * link.latency_seconds
    if not helps:
        return f"kept: there is room whenever it is idle, {seconds:.3g} s at the longest"
    if copy > seconds:
        return f"kept: idle {seconds:.3g} s at the longest, and its copies would take {copy:.3g} s"
    return (
        f"kept: idle {seconds:.3g} s at the longest; {format_bytes(size)} fit beside what is "
        "better swapped out"
    )


def _longest_idle(
    idle: intervals.Intervals, times: Reals, period: float, full: intervals.Integers
) -> dict[int, tuple[float, bool]]:
    """The longest idle interval of each block: seconds, and whether the budget is short in it."""
    found: dict[int, tuple[float, bool]] = {}
    rows = zip(
        *(
            column.tolist()
            for column in (idle.block, idle.after, idle.before, idle.low, idle.high, idle.wrapped)
        ),
        strict=True,
    )
    for block, after, before, low, high, wrapped in rows:
        begin = times[2 * after + 2]
        if before == NEVER:
            seconds = times[high] - begin
        else:
            later, op = divmod(before, idle.ops)
            seconds = times[2 * op + 1] + later * period - begin
        short = bool(full[high + 1] - full[low] + full[wrapped + 1])
        found[block] = max(found.get(block, (-1.0, False)), (float(seconds), short))
    return found
