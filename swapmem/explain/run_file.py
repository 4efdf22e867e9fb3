"""Run files: what a run leaves behind to be explained; docs/explain.md describes the JSON."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import swapmem.errors
from swapmem.files import read_text, write_text
from swapmem.planner import trace_json
from swapmem.planner.plan import Plan
from swapmem.planner.simulation import Copy, Simulation, Stall
from swapmem.planner.trace import Trace
from swapmem.records import TraceEvent

FORMAT = "swapmem run"
#: Raised when a key changes its meaning or goes away.
VERSION = 1


class RunFileError(swapmem.errors.Error, ValueError):
    """A file is no run file, or not a whole or sound one; the message says where and what."""


@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Attributes:
        events: what `Manager.trace` returned, oldest first.
        stats: what `Manager.stats` returned.
        trace: the iteration that was planned; None where no two iterations were alike.
        plan: what the last iterations followed; None if they followed none.
        simulation: what was foretold of the plan; None if nothing was simulated.
        block_ids: for each block of the trace, the id it has in the events of the last complete
            iteration (0 for none); empty if that is not known.
        about: what to call the run, and what its reader should know: a name and a text for each.
        notices: what the run had to say, such as that the spill directory lies in memory.
    """

    events: tuple[TraceEvent, ...]
    stats: Mapping[str, Any]
    trace: Trace | None = None
    plan: Plan | None = None
    simulation: Simulation | None = None
    block_ids: tuple[int, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def save_run(
    path: str | os.PathLike[str],
    *,
    events: Sequence[TraceEvent],
    stats: Mapping[str, Any],
    trace: Trace | None = None,
    plan: Plan | None = None,
    simulation: Simulation | None = None,
    block_ids: Sequence[int] = (),
    about: Mapping[str, str] | None = None,
    notices: Sequence[str] = (),
) -> None:
    """Writes a run file, whole or not at all.

    Args:
        path: The file to write or replace; compressed if its name ends in ".gz".
        events: What `Manager.trace` returned.
        stats: What `Manager.stats` returned.
        trace: The iteration that was planned, if one was.
        plan: What the last iterations followed, if they did.
        simulation: What the plan was chosen by.
        block_ids: For each block of the trace, its id in the last complete iteration of `events`
            (0 for none). Without it, blocks are matched by the order in which they were made.
        about: Shown in the heading of what is drawn: {"model": "resnet50", "batch": "16"}.
        notices: What `Manager.report` lists as notices.

    Raises:
        OSError: The file cannot be written; what was there before still is.
        ValueError: A figure is infinite or no number, or block_ids does not fit the trace.

    Example:
        >>> with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        ...     train()
        ...     save_run("run.json.gz", events=memory.trace(), stats=memory.stats())
    """
    if block_ids and (trace is None or len(block_ids) != len(trace.blocks)):
        count = 0 if trace is None else len(trace.blocks)
        raise ValueError(f"{len(block_ids)} block ids for {count} blocks of the trace")
    names: dict[str, int] = {}
    rows = []
    for event in events:
        op = names.setdefault(event.op, len(names))
        rows.append([*event[:4], op, *event[5:]])
    content = {
        "format": FORMAT,
        "version": VERSION,
        "about": dict(about or {}),
        "notices": list(notices),
        "stats": dict(stats),
        "trace": None if trace is None else trace_json.trace_object(trace),
        "plan": None if plan is None else dataclasses.asdict(plan),
        "simulation": None if simulation is None else dataclasses.asdict(simulation),
        "block_ids": list(block_ids),
        "op_names": list(names),
        "events": rows,
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, default=_plain)
    write_text(path, text + "\n")


def load_run(path: str | os.PathLike[str]) -> Run:
    """Reads a run file.

    Args:
        path: What `save_run` wrote.

    Returns:
        What was saved.

    Raises:
        OSError: The file cannot be read.
        RunFileError: It is no run file, one of another version, cut off, or was changed so that
            it contradicts itself.
        swapmem.planner.trace_json.TraceError: The same of the trace in it.
    """
    name = os.fspath(path)
    try:
        content = json.loads(read_text(path))
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise RunFileError(f"{name}: cut off or no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunFileError(f"{name}: no run file: its \"format\" is not '{FORMAT}'")
    if content.get("version") != VERSION:
        raise RunFileError(
            f"{name}: written in version {content.get('version')!r} of the format; "
            f"this swapmem reads version {VERSION}"
        )
    return _Reader(name, content).run()


class _Reader:
    """Makes a `Run` of JSON, or says what is wrong with it."""

    def __init__(self, path: str, content: dict[str, Any]) -> None:
        self._path = path
        self._content = content

    def run(self) -> Run:
        trace = plan = None
        if self._content.get("trace") is not None:
            trace, _ = trace_json.from_object(self._content["trace"], self._path)
        if self._content.get("plan") is not None:
            self._require(trace is not None, "plan", "there is no trace that it plans")
            plan = trace_json.plan_from_object(self._content["plan"], trace, self._path)
        block_ids = tuple(self._list("block_ids"))
        expected = 0 if trace is None else len(trace.blocks)
        fits = not block_ids or len(block_ids) == expected
        self._require(fits, "block_ids", f"{len(block_ids)} of them for {expected} blocks")
        self._require(all(isinstance(i, int) for i in block_ids), "block_ids", "no whole numbers")
        return Run(
            events=self._events(),
            stats=self._object("stats"),
            trace=trace,
            plan=plan,
            simulation=None if trace is None else self._simulation(trace),
            block_ids=block_ids,
            about={str(key): str(text) for key, text in self._object("about").items()},
            notices=tuple(map(str, self._list("notices"))),
        )

    def _simulation(self, trace: Trace) -> Simulation | None:
        if self._content.get("simulation") is None:
            return None
        fields = self._object("simulation")
        try:
            copies = tuple(Copy(*row) for row in fields["copies"])
            stalls = tuple(Stall(*row) for row in fields["stalls"])
            simulation = Simulation(
                **{
                    **fields,
                    "copies": copies,
                    "stalls": stalls,
                    "op_begin_seconds": tuple(fields["op_begin_seconds"]),
                    "op_end_seconds": tuple(fields["op_end_seconds"]),
                    "curve": tuple((time, size) for time, size in fields["curve"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunFileError(f"{self._path}: simulation: {error}") from error
        ops, blocks = len(trace.ops), len(trace.blocks)
        for what, times in (
            ("begin", simulation.op_begin_seconds),
            ("end", simulation.op_end_seconds),
        ):
            self._require(len(times) == ops, f"simulation.op_{what}_seconds", f"not {ops} of them")
        for i, copy in enumerate(copies):
            known = isinstance(copy.block, int) and 0 <= copy.block < blocks
            self._require(known, f"simulation.copies[{i}]", f"no block {copy.block!r}")
        for i, stall in enumerate(stalls):
            known = stall.block is None or 0 <= stall.block < blocks
            self._require(known, f"simulation.stalls[{i}]", f"no block {stall.block!r}")
        return simulation

    def _events(self) -> tuple[TraceEvent, ...]:
        names = self._list("op_names")
        events = []
        last_seconds = -math.inf
        for i, row in enumerate(self._list("events")):
            place = f"events[{i}]"
            self._require(isinstance(row, list) and len(row) == 8, place, "not 8 values")
            time_seconds, kind, block, size, op, seconds, resident, charged = row
            self._require(isinstance(kind, str), place, f"kind {kind!r}")
            self._require(
                isinstance(op, int) and 0 <= op < len(names),
                place,
                f"op {op!r}, but {len(names)} names",
            )
            numbers = (time_seconds, seconds)
            self._require(
                all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
                and seconds >= 0,
                place,
                "no time",
            )
            counts = (block, size, resident, charged)
            self._require(
                all(isinstance(v, int) and v >= 0 for v in counts), place, "no byte count"
            )
            self._require(time_seconds >= last_seconds, place, "earlier than the event before it")
            last_seconds = time_seconds
            events.append(
                TraceEvent(time_seconds, kind, block, size, names[op], seconds, resident, charged)
            )
        return tuple(events)

    def _list(self, key: str) -> list[Any]:
        value = self._content.get(key)
        self._require(isinstance(value, list), key, "missing, or no list")
        assert isinstance(value, list)
        return value

    def _object(self, key: str) -> dict[str, Any]:
        value = self._content.get(key)
        self._require(isinstance(value, dict), key, "missing, or no object")
        assert isinstance(value, dict)
        return value

    def _require(self, holds: bool, place: str, what: str) -> None:
        if not holds:
            raise RunFileError(f"{self._path}: {place}: {what}")


def _plain(value: Any) -> Any:
    """Makes what JSON can hold of a figure of NumPy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a run file cannot hold {type(value).__name__}")
