"""The figures of a run that its explanation opens with."""

from __future__ import annotations

from dataclasses import dataclass

from swapmem import plot
from swapmem.explain import spans
from swapmem.explain.run_file import Run
from swapmem.explain.timeline import Copy, Timeline


@dataclass(frozen=True)
class Lane:
    """What moved one way in an iteration.

    Attributes:
        bytes: of the copies that were complete in it.
        count: of these copies.
        busy_seconds: time in which at least one copy was under way.
        bytes_per_second: while busy; None if nothing moved.
        link_bytes_per_second: what was measured of the link alone; None if it was not.
        hidden_share: of busy_seconds, the share in which compute did not wait; None if nothing
            moved.
        misses: copies of blocks that the plan does not swap; None without a plan.
        miss_bytes: theirs.
    """

    bytes: int
    count: int
    busy_seconds: float
    bytes_per_second: float | None
    link_bytes_per_second: float | None
    hidden_share: float | None
    misses: int | None
    miss_bytes: int


@dataclass(frozen=True)
class Figures:
    """What one iteration did, beside what was planned.

    Attributes:
        seconds: the iteration.
        stall_seconds: of that, waits of compute.
        planned_seconds: as simulated; None without a plan.
        compute_seconds: as planned, without any stall; None without a plan.
        bound_seconds: no plan at this budget can be faster; None without a plan.
        budget_bytes: the device's budget; None if it is not known.
        peak_bytes: the most that the device's arrays took.
        swapped_out_peak_bytes: the most that was out at one time.
        out: copies to the store.
        in_: copies from it.
        hidden_share: of the time with a copy under way, either way; None if nothing moved.
        faults: touches that nobody announced, in all of the run; None in a simulation.
        iteration_seconds: of each complete iteration in the events, the first one first.
    """

    seconds: float
    stall_seconds: float
    planned_seconds: float | None
    compute_seconds: float | None
    bound_seconds: float | None
    budget_bytes: int | None
    peak_bytes: int
    swapped_out_peak_bytes: int
    out: Lane
    in_: Lane
    hidden_share: float | None
    faults: int | None
    iteration_seconds: tuple[float, ...]


def figures(run: Run, timeline: Timeline) -> Figures:
    """Adds up a timeline of a run.

    Args:
        run: where it is from.
        timeline: of one of its iterations, measured or simulated.
    """
    plan = run.plan
    link = None if run.trace is None else run.trace.machine.link
    device, *stored = timeline.tiers
    # The tiers of the store change at the same moments.
    sizes = [[size for _, size in tier.points] for tier in stored]
    return Figures(
        seconds=timeline.seconds,
        stall_seconds=timeline.stall_seconds,
        planned_seconds=None if plan is None else plan.seconds,
        compute_seconds=None if plan is None else plan.compute_seconds,
        bound_seconds=None if plan is None else plan.bound_seconds,
        budget_bytes=device.limit_bytes,
        peak_bytes=device.peak_bytes,
        swapped_out_peak_bytes=max(map(sum, zip(*sizes, strict=True)), default=0),
        out=_lane(
            timeline, timeline.outs, link.out_bytes_per_second if link else None, plan is not None
        ),
        in_=_lane(
            timeline, timeline.ins, link.in_bytes_per_second if link else None, plan is not None
        ),
        hidden_share=timeline.hidden_share((*timeline.outs, *timeline.ins)),
        faults=run.stats.get("faults") if timeline.source == "measured" else None,
        iteration_seconds=tuple(
            part.end_seconds - part.start_seconds for part in plot.iterations(run.events)
        ),
    )


def _lane(timeline: Timeline, copies: tuple[Copy, ...], link: float | None, planned: bool) -> Lane:
    complete = [copy for copy in copies if 0 < copy.end_seconds <= timeline.seconds]
    busy = spans.length(timeline.open_spans(copies))
    # What moved in a second of the lane: of copies that straddle the iteration only their share.
    moved = sum(
        copy.bytes
        * spans.length(timeline.open_spans([copy]))
        / max(copy.end_seconds - copy.begin_seconds, 1e-12)
        for copy in copies
    )
    missed = [copy for copy in complete if copy.planned is False]
    return Lane(
        bytes=timeline.copied_bytes(copies),
        count=len(complete),
        busy_seconds=busy,
        bytes_per_second=moved / busy if busy > 0 else None,
        link_bytes_per_second=link,
        hidden_share=timeline.hidden_share(copies),
        misses=len(missed) if planned else None,
        miss_bytes=sum(copy.bytes for copy in missed),
    )
