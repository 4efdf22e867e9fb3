"""Makes a plan: what is kept, what is swapped and when, and what is computed again."""

from __future__ import annotations

from swapmem.planner import preflight
from swapmem.planner.joint import Recompute, choose_segments
from swapmem.planner.plan import Plan
from swapmem.planner.reasons import explain, explain_recomputed
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.trace import Machine, Trace


def make_plan(
    trace: Trace,
    machine: Machine | None = None,
    recompute: Recompute = "auto",
    steps: int | None = None,
) -> Plan:
    """Decides for each block whether it is kept, swapped or recomputed, and when.

    Args:
        trace: one iteration.
        machine: what to plan for; None for the machine on which the trace was recorded.
        recompute: "auto" recomputes segments where that is faster than swapping them, "never" only
            swaps, "always" recomputes as long as that helps the budget, and swaps what then still
            does not fit.
        steps: how many plans are simulated; None for as many as take about a second.

    Returns:
        The plan. Segments that the trace recomputes already are among those that it names. Its
        swaps name blocks and ops of `with_recompute(trace, plan.recomputed)`, which is the trace
        itself where nothing more is recomputed, and its bound is that of this trace; its reasons
        are those of the trace's blocks.

    Raises:
        Infeasible: no plan exists; names the op, what it needs and the smallest budget that works.

    Example:
        >>> plan = make_plan(trace, replace(trace.machine, budget_bytes=8 << 30))
        >>> plan.seconds / plan.bound_seconds
        1.01
    """
    machine = machine or trace.machine
    preflight.check(trace, machine.budget_bytes)
    chosen = choose_segments(trace, machine, recompute, steps)
    found = chosen.found
    it = found.simulation
    segments = sorted(
        [(segment.pairs[0][0], segment.name) for segment in repeated_segments(trace)]
        + [(segment.first, segment.name) for segment in chosen.segments]
    )
    reasons = explain(chosen.prepared, machine, found.swaps, it)[: len(trace.blocks)]
    return Plan(
        swaps=found.swaps,
        recomputed=tuple(dict.fromkeys(name for _, name in segments)),
        reasons=explain_recomputed(reasons, chosen.segments),
        seconds=it.seconds,
        compute_seconds=it.compute_seconds,
        bound_seconds=found.bound_seconds,
        peak_bytes=it.peak_bytes,
        out_bytes=it.out_bytes,
        in_bytes=it.in_bytes,
    )
