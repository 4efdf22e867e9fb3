"""A run as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

The format is Chrome's trace events: https://perfetto.dev/docs/getting-started/other-formats. There
is a process for what was measured, with all iterations, and one for what was planned for the last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from swapmem import plot
from swapmem.explain import spans
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.explain.simulated import simulated
from swapmem.explain.timeline import Copy, OpSpan, Stall, Timeline
from swapmem.files import write_text

_MICRO = 1e6
_MEASURED, _PLANNED = 1, 2
# Threads of a process: rows of a lane get numbers from its first one on.
_ITERATIONS, _COMPUTE, _STALLS, _OUT, _IN = 1, 10, 20, 30, 50
_LANE_ROWS = 20


def write(run: Run, path: str | os.PathLike[str]) -> None:
    """Writes the trace.

    Args:
        run: what was loaded.
        path: the file to write; compressed if its name ends in ".gz", which Perfetto opens too.

    Raises:
        OSError: it cannot be written; what was there before still is.
        ValueError: the run has neither events nor a simulation.

    Example:
        >>> write(load_run("run.json.gz"), "trace.json")
    """
    content = {"displayTimeUnit": "ms", "otherData": dict(run.about), "traceEvents": events(run)}
    write_text(path, json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")


def events(run: Run) -> list[dict[str, Any]]:
    """Makes the trace's events, in Chrome's format.

    Args:
        run: what was loaded.

    Returns:
        Slices ("X"), counters ("C") and names ("M"). Times are microseconds since the first
        iteration in the run began.

    Raises:
        ValueError: the run has neither events nor a simulation.
    """
    found: list[dict[str, Any]] = []
    parts = plot.iterations(run.events)
    start = parts[0].start_seconds if parts else 0.0
    last = parts[-1].start_seconds - start if parts else 0.0
    for number, part in enumerate(parts):
        begin = part.start_seconds - start
        timeline = measured(run, number)
        name = f"iteration {number}"
        found.append(_slice(_MEASURED, _ITERATIONS, name, begin, timeline.seconds, {}))
        # A copy that straddles two iterations is drawn in the one that it ends in.
        found += _timeline(_MEASURED, timeline, begin, number == len(parts) - 1)
    if run.trace is not None and run.simulation is not None:
        found += _timeline(_PLANNED, simulated(run.trace, run.simulation), last, True)
    if not found:
        raise ValueError("the run has neither events nor a simulation: there is nothing to show")
    return [*_names(found), *found]


def _timeline(
    process: int, timeline: Timeline, begin: float, is_last: bool
) -> Iterator[dict[str, Any]]:
    for op in timeline.ops:
        arguments = {"phase": op.phase, "segment": op.segment, "op": op.index}
        yield _of(process, _COMPUTE, op.name, begin, op, arguments)
    for first, copies in ((_OUT, timeline.outs), (_IN, timeline.ins)):
        ended = [copy for copy in copies if is_last or copy.end_seconds <= timeline.seconds]
        for row, copy in _rows(ended):
            seconds = max(copy.end_seconds - copy.begin_seconds, 1e-9)
            arguments = {
                "bytes": copy.bytes,
                "block": copy.block,
                "GB/s": round(copy.bytes / seconds / 1e9, 3),
                "planned": copy.planned,
            }
            yield _of(process, first + row, copy.name, begin, copy, arguments)
    for row, stall in _rows(timeline.stalls):
        arguments = {"why": stall.why, "cause": stall.cause, "op": stall.op, "block": stall.block}
        yield _of(process, _STALLS + row, stall.op_name or "stall", begin, stall, arguments)
    budget = timeline.tiers[0].limit_bytes
    for tier in timeline.tiers:
        for time, size in tier.points:
            yield _counter(process, f"memory: {tier.name}", begin + time, size)
    if budget is not None:
        for time in (0.0, timeline.seconds):
            yield _counter(process, "memory: budget", begin + time, budget)


def _rows(things: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Slices of a thread may not overlap unless one lies in the other."""
    row_of = spans.rows([(thing.begin_seconds, thing.end_seconds) for thing in things])
    for row, thing in zip(row_of, things, strict=True):
        yield min(row, _LANE_ROWS - 1), thing


def _of(
    process: int,
    thread: int,
    name: str,
    begin: float,
    span: OpSpan | Copy | Stall,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    seconds = span.end_seconds - span.begin_seconds
    return _slice(process, thread, name, begin + span.begin_seconds, seconds, arguments)


def _slice(
    process: int, thread: int, name: str, begin: float, seconds: float, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": process,
        "tid": thread,
        "name": name,
        "ts": round(begin * _MICRO, 3),
        "dur": round(seconds * _MICRO, 3),
        "args": {key: value for key, value in arguments.items() if value not in (None, "")},
    }


def _counter(process: int, name: str, seconds: float, size: int) -> dict[str, Any]:
    time = round(seconds * _MICRO, 3)
    return {"ph": "C", "pid": process, "name": name, "ts": time, "args": {"bytes": size}}


def _names(found: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Names processes and threads, and says in which order they are shown."""
    lanes = {_ITERATIONS: "iterations", _COMPUTE: "compute", _STALLS: "stalls"}
    lanes |= {_OUT: "copies out", _IN: "copies in"}
    processes = {_MEASURED: "measured", _PLANNED: "planned for the last iteration"}
    threads = sorted({(event["pid"], event["tid"]) for event in found if "tid" in event})
    for process in sorted({process for process, _ in threads}):
        yield _meta(process, 0, "process_name", {"name": processes[process]})
        yield _meta(process, 0, "process_sort_index", {"sort_index": process})
    for process, thread in threads:
        first = max(lane for lane in lanes if lane <= thread)
        name = lanes[first] if thread == first else f"{lanes[first]} {thread - first + 1}"
        yield _meta(process, thread, "thread_name", {"name": name})
        yield _meta(process, thread, "thread_sort_index", {"sort_index": thread})


def _meta(process: int, thread: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "pid": process, "tid": thread, "name": name, "args": arguments}
