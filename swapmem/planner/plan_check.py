"""Whether a plan was made for a trace: a swap at the wrong place is worse than none."""

from __future__ import annotations

from typing import NoReturn

from swapmem.planner.errors import TraceError
from swapmem.planner.paths import prefixes
from swapmem.planner.plan import Plan, Swap
from swapmem.planner.recompute import with_recompute
from swapmem.planner.trace import Trace


def check_plan(plan: Plan, trace: Trace, path: str = "") -> None:
    """Refuses a plan that cannot be for this trace.

    Args:
        plan: the plan.
        trace: what it is to be used for.
        path: the file that it comes from, for the message.

    Raises:
        TraceError: naming the place and what stands there.

    Example:
        >>> check_plan(plan, trace)
    """

    def refuse(place: str, message: str) -> NoReturn:
        raise TraceError(message, path, place)

    known = {name for op in trace.ops for name in prefixes(op.segment)}
    for i, name in enumerate(plan.recomputed):
        if name not in known:
            refuse(f"plan.recomputed[{i}]", f"the trace has no segment {name!r}")
    if len(plan.reasons) != len(trace.blocks):
        refuse(
            "plan.reasons", f"{len(plan.reasons)} of them for a trace of {len(trace.blocks)} blocks"
        )
    if plan.recomputed:
        trace = with_recompute(trace, plan.recomputed)
    for i, swap in enumerate(plan.swaps):
        fault = _fault(swap, trace)
        if fault:
            refuse(f"plan.swaps[{i}]", fault)


def _fault(swap: Swap, trace: Trace) -> str:
    """What is wrong with a swap; empty if nothing is."""
    ops, blocks = len(trace.ops), len(trace.blocks)
    if not 0 <= swap.block < blocks:
        return f"there is no block {swap.block}; there are {blocks}, counted from 0"
    if not trace.blocks[swap.block].eligible:
        return f"block {swap.block} may not be swapped out: {trace.blocks[swap.block].reason}"
    if not -1 <= swap.out_after < ops:
        return f"out_after {swap.out_after} is not among -1 ... {ops - 1}"
    if swap.fetch_at is None and swap.needed_by is None:
        return ""
    if swap.fetch_at is None or swap.needed_by is None:
        return "fetch_at and needed_by must both be None, or neither"
    if not swap.out_after < swap.fetch_at <= swap.needed_by < 2 * ops:
        return (
            f"out_after {swap.out_after}, fetch_at {swap.fetch_at}, needed_by {swap.needed_by} "
            "do not follow each other"
        )
    return ""
