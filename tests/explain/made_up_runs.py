"""Runs that nobody ran: a trace, swaps for it, and the events that the engine would have noted."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import replace
from typing import Any

from swapmem.explain.run_file import Run
from swapmem.planner.plan import Plan, Swap
from swapmem.planner.simulate import Simulator
from swapmem.planner.simulation import Simulation, Stall
from swapmem.planner.trace import Block, Trace
from swapmem.records import TraceEvent
from tests.planner import synthetic

MIB = 1 << 20
#: On the clock of the events, when the first iteration began.
CLOCK_SECONDS = 5000.0
# Ids that the engine gave: as many for each iteration, which makes new blocks.
_IDS_EACH = 100_000


def long_intervals(trace: Trace, least_ops: int = 4, lead: int = 2) -> list[Swap]:
    """Swaps each block out wherever it idles long: no good plan, but a plan."""
    uses: dict[int, list[int]] = {}
    for i, block in enumerate(trace.blocks):
        if block.born is not None and block.eligible:
            uses[i] = [block.born // 2]
    for k, op in enumerate(trace.ops):
        for i in op.touches:
            if i in uses and uses[i][-1] != k:
                uses[i].append(k)
    return sorted(
        (
            Swap(i, first, max(second - lead, first + 1), second)
            for i, ops in uses.items()
            for first, second in itertools.pairwise(ops)
            if second - first >= least_ops
        ),
        key=lambda swap: (swap.out_after, swap.block),
    )


def with_ineligible(trace: Trace, *indices: int) -> Trace:
    """The trace with some blocks that may not be swapped out."""
    blocks = list(trace.blocks)
    for i in indices:
        blocks[i] = replace(blocks[i], eligible=False, reason="a variable refers to it")
    return replace(trace, blocks=tuple(blocks))


def plan_for(trace: Trace, swaps: list[Swap], simulation: Simulation) -> Plan:
    """A plan with reasons as the planner gives them."""
    swapped = {swap.block: swap for swap in swaps}
    return Plan(
        swaps=tuple(swaps),
        recomputed=(),
        reasons=tuple(_reason(block, swapped.get(i)) for i, block in enumerate(trace.blocks)),
        seconds=simulation.seconds,
        compute_seconds=simulation.compute_seconds,
        bound_seconds=simulation.compute_seconds,
        peak_bytes=simulation.peak_bytes,
        out_bytes=simulation.out_bytes,
        in_bytes=simulation.in_bytes,
    )


def _reason(block: Block, swap: Swap | None) -> str:
    if not block.eligible:
        return f"not eligible: {block.reason}"
    if swap is None:
        return "kept: no use of it is far enough from the next"
    return f"swapped: idle from op {swap.out_after} to op {swap.needed_by}"


def resnet_run(fraction: float = 0.55, bytes_per_second: float = 2e9, lead: int = 2) -> Run:
    """A planned run of a network with residual units, with some stalls."""
    link = synthetic.rates(bytes_per_second)
    trace = synthetic.resnet_like(link=link, fraction=fraction)
    return planned_run(with_ineligible(trace, 0), lead=lead)


def planned_run(trace: Trace, lead: int = 2, least_ops: int = 8) -> Run:
    """A run that did what was simulated, to the microsecond."""
    swaps = long_intervals(trace, least_ops=least_ops, lead=lead)
    simulation = Simulator(trace).run(swaps)
    return Run(
        events=tuple(events_of(trace, simulation, iterations=3)),
        stats=stats_of(trace, simulation),
        trace=trace,
        plan=plan_for(trace, swaps, simulation),
        simulation=simulation,
        block_ids=tuple(block_id(trace, i, 0) for i in range(len(trace.blocks))),
        about={"model": "made up", "batch": "16"},
        notices=("the spill directory lies in memory",),
    )


def block_id(trace: Trace, block: int, iteration: int) -> int:
    """The engine's id of a block of the trace in one of the iterations, the first of which is 0."""
    origin = trace.blocks[block].carried_from
    if origin is not None:
        return block_id(trace, origin, iteration - 1)
    made = trace.blocks[block].born is not None
    return (iteration + 2) * _IDS_EACH * made + block + 1


def stats_of(trace: Trace, simulation: Simulation) -> dict[str, Any]:
    """What of the statistics an explanation reads."""
    return {
        "device": trace.device,
        "budget_bytes": trace.machine.budget_bytes,
        "live_bytes": 0,
        "resident_bytes": 0,
        "faults": 0,
        "stall_seconds": 3 * simulation.stall_seconds,
        "iterations": 3,
        "store_tiers": [
            {"name": "file", "used_bytes": 0, "peak_bytes": 0, "budget_bytes": 1 << 40}
        ],
    }


def events_of(trace: Trace, simulation: Simulation, iterations: int) -> list[TraceEvent]:
    """Plays a simulated iteration some times over, as the engine would have noted it."""
    one = _one_iteration(trace, simulation)
    times = [time for time, _ in simulation.curve]
    sizes = [size for _, size in simulation.curve]
    events = []
    for count in range(iterations):
        begin = CLOCK_SECONDS + count * simulation.seconds
        end = CLOCK_SECONDS + (count + 1) * simulation.seconds
        for time, kind, block, *rest in one:
            resident = sizes[bisect_right(times, time) - 1]
            name = 0 if block is None else block_id(trace, block, count)
            moment = min(begin + time, end)
            events.append(TraceEvent(moment, kind, name, *rest, resident, resident))
    events.append(TraceEvent(end, "iteration", 0, 0, "", 0.0, sizes[-1], sizes[-1]))
    return sorted(events, key=lambda event: event.time_seconds)


_Row = tuple[float, str, int | None, int, str, float]


def _one_iteration(trace: Trace, simulation: Simulation) -> list[_Row]:
    rows: list[_Row] = [(0.0, "iteration", None, 0, "", 0.0)]
    waits: dict[int, list[Stall]] = {}
    for stall in simulation.stalls:
        waits.setdefault(stall.op, []).append(stall)
    moments = []
    last_end = 0.0
    for k, op in enumerate(trace.ops):
        begin, end = simulation.op_begin_seconds[k], simulation.op_end_seconds[k]
        moments += [last_end, begin]
        last_end = end
        touched = sum(trace.blocks[i].bytes for i in op.touches)
        since = begin - sum(stall.seconds for stall in waits.get(k, ()))
        rows.append((since, "begin_op", None, touched, op.name, 0.0))
        waited = since
        for stall in waits.get(k, ()):
            waited += stall.seconds
            # An op that waits for data tells of all that it touches, an allocation of itself.
            size = touched + (stall.block is None)
            rows.append((waited, "stall", None, size, op.name, stall.seconds))
        rows.append((end, "end_op", None, touched, op.name, end - since))
    moments.append(last_end)
    for change in trace.changes:
        kind = "allocate" if change.allocates else "free"
        size = trace.blocks[change.block].bytes
        rows.append((moments[change.slot], kind, change.block, size, "", 0.0))
    for copy in simulation.copies:
        seconds = copy.ended_seconds - copy.begun_seconds
        row = (copy.block, copy.bytes, "", seconds)
        if copy.direction == "out":
            rows.append((copy.ended_seconds, "swap_out", *row))
            rows.append((copy.ended_seconds, "evict", *row[:3], 0.0))
        else:
            rows.append((copy.ended_seconds, "swap_in", *row))
    return sorted(rows, key=lambda row: row[0])
