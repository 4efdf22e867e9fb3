"""What another budget, link, device, batch or insize would do: predicted, not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from swapmem.planner import memory, preflight
from swapmem.planner.errors import Infeasible, PlanError
from swapmem.planner.joint import Recompute
from swapmem.planner.search import make_plan
from swapmem.planner.trace import Trace

# How finely a smallest budget is looked for, as a part of the in-core peak, and a largest scale.
_BUDGET_PARTS = 100
_SCALE_PARTS = 64
_LARGEST_SCALE = 64.0


@dataclass(frozen=True)
class Row:
    """A prediction.

    Attributes:
        budget_bytes: what it was made for.
        fraction: of the in-core peak.
        feasible: whether a plan exists; if not, all that follows but `needed_bytes` is 0.
        needed_bytes: the smallest budget with which a plan exists.
        seconds: of an iteration.
        slowdown: how many times as long as in core on the same device.
        bound_seconds: what no plan can beat with the same segments recomputed.
        peak_bytes: the most that is resident.
        out_bytes: copied out in an iteration.
        in_bytes: copied in.
        recomputed: how many segments are computed again.
    """

    budget_bytes: int
    fraction: float
    feasible: bool
    needed_bytes: int
    seconds: float = 0.0
    slowdown: float = 0.0
    bound_seconds: float = 0.0
    peak_bytes: int = 0
    out_bytes: int = 0
    in_bytes: int = 0
    recomputed: int = 0


def elsewhere(
    trace: Trace,
    *,
    link_bytes_per_second: float | None = None,
    compute_scale: float = 1.0,
    size_scale: float = 1.0,
) -> Trace:
    """The trace as it would be on another device or link, or with another batch or insize.

    Args:
        trace: one iteration.
        link_bytes_per_second: of the other link, in each direction alone. With both directions busy
            it loses as much as the one of the trace.
        compute_scale: how many times as fast the other device runs the ops. Gaps stay: they are the
            host's.
        size_scale: how many times as many images or pixels. Ops and blocks grow in proportion,
            except parameters, what belongs to them, and their updates.

    Returns:
        The trace.

    Raises:
        ValueError: a factor or rate is not above 0.

    Example:
        >>> faster = elsewhere(trace, link_bytes_per_second=25e9, compute_scale=3)
    """
    for name, value in (
        ("link_bytes_per_second", link_bytes_per_second),
        ("compute_scale", compute_scale),
        ("size_scale", size_scale),
    ):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} has to be above 0, not {value:g}")
    if link_bytes_per_second is not None:
        old, rate = trace.machine.link, link_bytes_per_second
        link = replace(
            old,
            out_bytes_per_second=rate,
            in_bytes_per_second=rate,
            duplex_out_bytes_per_second=rate
            * (old.duplex_out_bytes_per_second / old.out_bytes_per_second),
            duplex_in_bytes_per_second=rate
            * (old.duplex_in_bytes_per_second / old.in_bytes_per_second),
        )
        trace = replace(trace, machine=replace(trace.machine, link=link))
    factor = size_scale / compute_scale
    updates = {block for op in trace.ops if op.phase == "update" for block in op.touches}
    fixed = updates | {
        index
        for index, block in enumerate(trace.blocks)
        if (block.born is None and block.freed is None) or block.carried_from in updates
    }
    ops = tuple(
        replace(op, seconds=op.seconds * (1 / compute_scale if op.phase == "update" else factor))
        for op in trace.ops
    )
    blocks = tuple(
        block if index in fixed else replace(block, bytes=round(block.bytes * size_scale))
        for index, block in enumerate(trace.blocks)
    )
    return replace(trace, ops=ops, blocks=blocks)


def predict(
    trace: Trace,
    budgets: Iterable[int],
    *,
    recompute: Recompute = "auto",
    steps: int | None = None,
) -> list[Row]:
    """Plans for other budgets.

    Args:
        trace: one iteration; of `elsewhere` for another device or link.
        budgets: in bytes.
        recompute: as for `swapmem.planner.search.make_plan`.
        steps: likewise.

    Returns:
        A row for each budget, in their order.

    Example:
        >>> for row in predict(trace, budgets(trace)):
        ...     print(row.budget_bytes, row.seconds)
    """
    peak = memory.peak(trace)
    needed = preflight.smallest_budget(trace)
    in_core = sum(op.seconds + op.gap_seconds for op in trace.ops) + trace.tail_seconds
    rows = []
    for budget in budgets:
        fraction = budget / max(peak, 1)
        try:
            plan = make_plan(trace, replace(trace.machine, budget_bytes=budget), recompute, steps)
        except Infeasible:
            rows.append(Row(budget, fraction, False, needed))
            continue
        rows.append(
            Row(
                budget,
                fraction,
                True,
                needed,
                plan.seconds,
                plan.seconds / in_core if in_core else 1.0,
                plan.bound_seconds,
                plan.peak_bytes,
                plan.out_bytes,
                plan.in_bytes,
                len(plan.recomputed),
            )
        )
    return rows


def budgets(trace: Trace, count: int = 8) -> list[int]:
    """Budgets worth looking at: from the smallest that works to the in-core peak, evenly."""
    least, peak = preflight.smallest_budget(trace), memory.peak(trace)
    steps = max(count - 1, 1)
    return sorted({least + (peak - least) * step // steps for step in range(steps + 1)})


def knee(rows: Sequence[Row]) -> Row | None:
    """Where less memory begins to cost much: the row furthest below the line between the ends.

    Args:
        rows: of several budgets.

    Returns:
        The row; None where the curve has none, as when every budget takes the same time.
    """
    curve = sorted((row for row in rows if row.feasible), key=lambda row: row.budget_bytes)
    if len(curve) < 3:
        return None
    first, last = curve[0], curve[-1]
    height = first.seconds - last.seconds
    if height <= 0.001 * last.seconds:
        return None

    def below(row: Row) -> float:
        width = last.budget_bytes - first.budget_bytes
        along = (row.budget_bytes - first.budget_bytes) / width
        return (1 - along) - (row.seconds - last.seconds) / height

    best = max(curve, key=below)
    return best if below(best) > 0 else None


def smallest_budget(
    trace: Trace, slowdown: float, *, recompute: Recompute = "auto", steps: int | None = None
) -> Row:
    """The smallest budget with which an iteration takes at most so much longer than in core.

    Args:
        trace: one iteration.
        slowdown: 1.05 for five percent longer; at least 1.
        recompute: as for `swapmem.planner.search.make_plan`.
        steps: likewise.

    Returns:
        The prediction for it, to a hundredth of the in-core peak.

    Raises:
        ValueError: the slow-down is less than 1.
    """
    if not slowdown >= 1:
        raise ValueError(f"a slow-down is at least 1, not {slowdown:g}")
    least, peak = preflight.smallest_budget(trace), memory.peak(trace)

    def row(budget: int) -> Row:
        return predict(trace, [budget], recompute=recompute, steps=steps)[0]

    best = row(least)
    if best.slowdown <= slowdown:
        return best
    best = row(peak)
    low, high = least, peak
    while high - low > peak // _BUDGET_PARTS:
        middle = (low + high) // 2
        found = row(middle)
        if found.slowdown <= slowdown:
            best, high = found, middle
        else:
            low = middle
    return best


def largest_scale(
    trace: Trace,
    budget_bytes: int,
    slowdown: float | None = None,
    *,
    recompute: Recompute = "auto",
    steps: int | None = None,
) -> float:
    """How many times as many images, or pixels, a budget has room for.

    Args:
        trace: one iteration.
        budget_bytes: the device's memory that blocks may take.
        slowdown: how many times as long as in core an iteration may take; None for any.
        recompute: as for `swapmem.planner.search.make_plan`.
        steps: likewise.

    Returns:
        The factor, to a 64th of it, at most 64. Not a whole number of images. An insize grows by
        its square root.

    Raises:
        Infeasible: not even a 64th of the trace's size fits.
        PlanError: it fits, and takes too long.
    """

    def fits(scale: float) -> bool:
        other = elsewhere(trace, size_scale=scale)
        if preflight.smallest_budget(other) > budget_bytes:
            return False
        if slowdown is None:
            return True
        found = predict(other, [budget_bytes], recompute=recompute, steps=steps)[0]
        return found.slowdown <= slowdown

    low, high = 1 / _LARGEST_SCALE, _LARGEST_SCALE
    if not fits(low):
        preflight.check(elsewhere(trace, size_scale=low), budget_bytes)
        raise PlanError(f"no size takes at most {slowdown:g} times as long as in core")
    if fits(high):
        return high
    while high / low > 1 + 1 / _SCALE_PARTS:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
