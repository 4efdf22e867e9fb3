"""A timeline of what a run did: from its events."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from swapmem import plot
from swapmem.explain.causes import Causes, Finding, milliseconds
from swapmem.explain.identity import BlockNames, op_indices
from swapmem.explain.run_file import Run
from swapmem.explain.swapped_out import swapped_out
from swapmem.explain.tiers import stored_tiers
from swapmem.explain.timeline import Copy, OpSpan, Stall, Tier, Timeline
from swapmem.planner.trace import Trace
from swapmem.records import TraceEvent


def measured(run: Run, iteration: int = -1) -> Timeline:
    """Lays out one iteration as the engine saw it.

    Args:
        run: what was loaded.
        iteration: which of the complete iterations in the run's events; the last one unless told.

    Raises:
        ValueError: the run has no events.
        IndexError: it has fewer iterations.

    Example:
        >>> measured(load_run("run.json.gz")).stall_seconds
        0.0125
    """
    parts = plot.iterations(run.events)
    if not parts:
        raise ValueError("the run has no events: nothing was allocated while its manager was on")
    if not -len(parts) <= iteration < len(parts):
        raise IndexError(f"no iteration {iteration}: the run's events hold {len(parts)}")
    number = range(len(parts))[iteration]
    part, before = parts[number], parts[number - 1] if number else None
    return _Measured(run, part, BlockNames(run.trace, part, before, run.block_ids)).timeline()


class _Measured:
    """Reads the events of one iteration."""

    def __init__(self, run: Run, part: plot.Iteration, names: BlockNames) -> None:
        self._run = run
        self._part = part
        self._names = names
        self._begin = part.start_seconds
        self._seconds = max(part.end_seconds - part.start_seconds, 1e-9)

    def timeline(self) -> Timeline:
        outs, ins = self._copies()
        ops = _ops(self._run.trace, self._part.events, self._begin)
        begins = {op.index: op.begin_seconds for op in ops if op.index is not None}
        tiers = self._tiers()
        touches = [op.touches for op in self._run.trace.ops] if self._run.trace else []
        causes = Causes(self._run.plan, touches, begins, self._seconds, outs, ins, tiers[0])
        return Timeline(
            source="measured",
            seconds=self._seconds,
            ops=tuple(ops),
            outs=tuple(outs),
            ins=tuple(ins),
            stalls=tuple(self._stalls(ops, causes)),
            tiers=tiers,
            charged=self._curve([event.charged_bytes for event in self._part.events]),
        )

    def _copies(self) -> tuple[list[Copy], list[Copy]]:
        planned = None
        if self._run.plan is not None:
            planned = {swap.block for swap in self._run.plan.swaps}
        copies: dict[str, list[Copy]] = {"swap_out": [], "swap_in": []}
        inside = {id(event) for event in self._part.events}
        for event in self._run.events:
            if event.kind == "allocate" and id(event) in inside:
                self._names.allocated(event)
            if event.kind not in copies:
                continue
            end = event.time_seconds - self._begin
            begin = end - event.seconds
            if end <= 0 or begin >= self._seconds:
                continue
            index = self._names.index(event.block)
            copies[event.kind].append(
                Copy(
                    block=index,
                    name=self._names.name(event.block),
                    bytes=event.bytes,
                    begin_seconds=begin,
                    end_seconds=end,
                    planned=None if planned is None else index in planned,
                )
            )
        for lane in copies.values():
            lane.sort(key=lambda copy: copy.begin_seconds)
        return copies["swap_out"], copies["swap_in"]

    def _stalls(self, ops: Sequence[OpSpan], causes: Causes) -> list[Stall]:
        stalls = []
        opened: TraceEvent | None = None
        for event in self._part.events:
            if event.kind == "begin_op":
                opened = event
            elif event.kind == "allocate":
                opened = None
            elif event.kind in ("stall", "fault") and event.seconds > 0:
                end = event.time_seconds - self._begin
                begin = max(end - event.seconds, 0.0)
                op = _op_at(ops, end)
                index = None if op is None else op.index
                if event.kind == "fault":
                    block = self._names.index(event.block)
                    took = milliseconds(event.seconds)
                    why = f"touched {self._names.name(event.block)} unannounced; back after {took}"
                    finding = Finding("not announced", why, block)
                else:
                    # An op that begins tells with one figure what it waits for and what it touches.
                    begins = opened is not None and (opened.op, opened.bytes) == (
                        event.op,
                        event.bytes,
                    )
                    found = causes.of_data(begin, end, index) if begins else None
                    finding = found or causes.of_memory(begin, end, event.bytes)
                stalls.append(
                    Stall(index, event.op, begin, end, finding.block, finding.cause, finding.why)
                )
        return sorted(stalls, key=lambda stall: stall.begin_seconds)

    def _tiers(self) -> tuple[Tier, ...]:
        stats = self._run.stats
        resident = self._curve([event.resident_bytes for event in self._part.events])
        device = Tier("device", resident, stats.get("budget_bytes"))
        out = [
            (time - self._begin, size)
            for time, size in swapped_out(self._run.events, stats)
            if time <= self._part.end_seconds
        ]
        before = [size for time, size in out if time <= 0]
        points = [(0.0, before[-1] if before else 0), *(point for point in out if point[0] > 0)]
        return (device, *stored_tiers(points, stats.get("store_tiers", ())))

    def _curve(self, values: Sequence[int]) -> tuple[tuple[float, int], ...]:
        times = [max(event.time_seconds - self._begin, 0.0) for event in self._part.events]
        return tuple(thinned(list(zip(times, values, strict=True))))


def thinned(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Leaves out points that change nothing, and all but the last of one moment."""
    kept: list[tuple[float, int]] = []
    for (time, size), following in itertools.zip_longest(points, points[1:]):
        if following is not None and following[0] == time:
            continue
        if not kept or kept[-1][1] != size:
            kept.append((time, size))
    return kept


def _ops(trace: Trace | None, events: Sequence[TraceEvent], begin_seconds: float) -> list[OpSpan]:
    """The outermost ops of the iteration, in order."""
    # The last op of the iteration before may end as this one begins.
    ended = [
        event
        for event in events
        if event.kind == "end_op" and event.time_seconds - event.seconds / 2 > begin_seconds
    ]
    # An op that is inside another ends before it and begins after it.
    ended.sort(key=lambda event: (event.time_seconds - event.seconds, -event.time_seconds))
    outermost: list[TraceEvent] = []
    for event in ended:
        if not outermost or event.time_seconds > outermost[-1].time_seconds:
            outermost.append(event)
    spans = []
    indices = op_indices(trace, [event.op for event in outermost])
    last_end = 0.0
    for event, index in zip(outermost, indices, strict=True):
        end = event.time_seconds - begin_seconds
        # Threads of one program may have ops at the same time; the lane shows one after the other.
        begin = max(end - event.seconds, last_end)
        last_end = end
        phase, segment = _phase(event.op), ""
        if trace is not None and index is not None:
            phase, segment = trace.ops[index].phase, trace.ops[index].segment or ""
        spans.append(OpSpan(index, event.op, phase, segment, begin, end))
    return spans


def _phase(op: str) -> str:
    for phase in ("backward", "update"):
        if op.endswith(f" {phase}"):
            return phase
    return "forward"


def _op_at(ops: Sequence[OpSpan], seconds: float) -> OpSpan | None:
    for op in ops:
        if op.begin_seconds <= seconds <= op.end_seconds:
            return op
    return None
