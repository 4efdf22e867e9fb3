"""A timeline of what a plan was foretold to do."""

from __future__ import annotations

import itertools
from typing import cast

from swapmem.explain.identity import block_name
from swapmem.explain.tiers import stored_tiers
from swapmem.explain.timeline import CAUSES, Cause, Copy, OpSpan, Stall, Tier, Timeline
from swapmem.planner import simulation as foretold
from swapmem.planner.trace import Trace
from swapmem.sizes import format_bytes


def simulated(trace: Trace, simulation: foretold.Simulation) -> Timeline:
    """Lays out the iteration that was simulated.

    Args:
        trace: what was planned for.
        simulation: of a plan for it.

    Example:
        >>> simulated(trace, Simulator(trace).run(plan.swaps)).seconds
        1.5
    """
    begins, ends = simulation.op_begin_seconds, simulation.op_end_seconds
    ops = [
        OpSpan(i, op.name, op.phase, op.segment or "", begins[i], ends[i])
        for i, op in enumerate(trace.ops)
    ]
    lanes: dict[str, list[Copy]] = {"out": [], "in": []}
    for copy in simulation.copies:
        name = block_name(trace.blocks, copy.block)
        times = (copy.begun_seconds, copy.ended_seconds)
        lanes[copy.direction].append(Copy(copy.block, name, copy.bytes, *times, True))
    for lane in lanes.values():
        lane.sort(key=lambda copy: copy.begin_seconds)
    return Timeline(
        source="simulated",
        seconds=simulation.seconds,
        ops=tuple(ops),
        outs=tuple(lanes["out"]),
        ins=tuple(lanes["in"]),
        stalls=tuple(_stalls(trace, simulation)),
        tiers=_tiers(trace, simulation),
    )


def _stalls(trace: Trace, simulation: foretold.Simulation) -> list[Stall]:
    """Stalls of one op follow each other, and it begins after the last of them."""
    count = len(trace.ops)
    last_end = simulation.op_end_seconds[-1] if count else 0.0
    stalls = []
    for op, group in itertools.groupby(simulation.stalls, key=lambda stall: stall.op):
        waits = list(group)
        seconds = sum(stall.seconds for stall in waits)
        # Behind the last op are the allocations of the time after it.
        begin = simulation.op_begin_seconds[op] - seconds if op < count else last_end
        for wait in waits:
            end = begin + wait.seconds
            cause = cast(Cause, wait.cause)
            what = "memory"
            if wait.block is not None:
                size = format_bytes(trace.blocks[wait.block].bytes)
                what = f"{block_name(trace.blocks, wait.block)}, {size}"
            why = f"waited for {what}: {CAUSES[cause]}"
            index, name = (op, trace.ops[op].name) if op < count else (None, "")
            stalls.append(Stall(index, name, begin, end, wait.block, cause, why))
            begin = end
    return stalls


def _tiers(trace: Trace, simulation: foretold.Simulation) -> tuple[Tier, ...]:
    machine = trace.machine
    curve = list(simulation.curve)
    if not curve or curve[0][0] > 0:
        curve.insert(0, (0.0, curve[-1][1] if curve else 0))
    device = Tier("device", tuple(curve), machine.budget_bytes)
    out = _swapped_out(trace, simulation)
    if machine.store_bytes is None or machine.behind is None:
        return (device, *stored_tiers(out, ()))
    near = {"name": "store", "budget_bytes": machine.store_bytes}
    return (device, *stored_tiers(out, (near, {"name": "behind", "budget_bytes": None})))


def _swapped_out(trace: Trace, simulation: foretold.Simulation) -> list[tuple[float, int]]:
    """All blocks less those on the device, at each moment one of the two changes."""
    moments = _slot_seconds(trace, simulation)
    live = sum(block.bytes for block in trace.blocks if block.born is None)
    changes = [(0.0, 0, live)]
    for change in trace.changes:
        size = trace.blocks[change.block].bytes
        live += size if change.allocates else -size
        changes.append((moments[change.slot], 0, live))
    changes += [(time, 1, size) for time, size in simulation.curve]
    changes.sort(key=lambda change: change[0])
    points: list[tuple[float, int]] = []
    live, resident = changes[0][2], simulation.curve[-1][1] if simulation.curve else 0
    for time, which, size in changes:
        live, resident = (size, resident) if which == 0 else (live, size)
        # Allocations wait for room in the simulation: what lives may seem less than what is there.
        out = max(live - resident, 0)
        if points and points[-1][0] == time:
            points[-1] = (time, out)
        elif not points or points[-1][1] != out:
            points.append((time, out))
    return points


def _slot_seconds(trace: Trace, simulation: foretold.Simulation) -> list[float]:
    """When each slot of the trace began in the simulation."""
    seconds = []
    last_end = 0.0
    for begin, end in zip(simulation.op_begin_seconds, simulation.op_end_seconds, strict=True):
        seconds += [last_end, begin]
        last_end = end
    return [*seconds, last_end]
