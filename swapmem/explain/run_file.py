"""Run files: what a run leaves behind to be explained; docs/explain.md describes the JSON."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

import swapmem.errors
from swapmem.files import read_text, write_text
from swapmem.planner import trace_json
from swapmem.planner.plan import Plan
from swapmem.planner.simulation import Simulation
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
        block_ids: for each block of the trace the engine's id that it had when the trace was
            recorded (0 for none); empty if that is not known.
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


class _File(msgspec.Struct):
    """The JSON object, as far as its shape goes."""

    stats: dict[str, Any]
    trace: Any
    plan: Any
    simulation: Simulation | None
    block_ids: list[int]
    about: dict[str, str]
    notices: list[str]
    op_names: list[str]
    # As TraceEvent, with an index into op_names for the name.
    events: list[tuple[float, str, int, int, int, float, int, int]]


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
        block_ids: For each block of the trace the engine's id that it had when the trace was
            recorded (0 for none). Blocks that live for good are known by it; the others are told by
            the order in which they are made.
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
        "plan": None if plan is None else trace_json.plan_object(plan),
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
        swapmem.planner.errors.TraceError: The same of the trace and the plan in it.
    """
    name = os.fspath(path)
    try:
        content = msgspec.json.decode(read_text(path))
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise RunFileError(f"{name}: cut off, or not what its name says: {error}") from error
    except msgspec.DecodeError as error:
        raise RunFileError(f"{name}: cut off, or no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunFileError(f'{name}: no run file: its "format" is not "{FORMAT}"')
    if content.get("version") != VERSION:
        raise RunFileError(
            f"{name}: written in version {content.get('version')!r} of the format; "
            f"this swapmem reads version {VERSION}"
        )
    try:
        file = msgspec.convert(content, _File)
    except msgspec.ValidationError as error:
        raise RunFileError(f"{name}: {error}") from error
    return _run(file, name)


def _run(file: _File, path: str) -> Run:
    trace = plan = None
    if file.trace is not None:
        trace, _ = trace_json.from_object(file.trace, path)
        if file.plan is not None:
            plan = trace_json.plan_from_object(file.plan, trace, path)
    elif file.plan is not None or file.simulation is not None:
        raise RunFileError(f"{path}: trace: missing, but there is a plan or a simulation of it")
    blocks = 0 if trace is None else len(trace.blocks)
    if file.block_ids and len(file.block_ids) != blocks:
        raise RunFileError(f"{path}: block_ids: {len(file.block_ids)} for {blocks} blocks")
    if trace is not None and file.simulation is not None:
        _check_simulation(file.simulation, trace, path)
    return Run(
        events=tuple(_events(file, path)),
        stats=file.stats,
        trace=trace,
        plan=plan,
        simulation=file.simulation,
        block_ids=tuple(file.block_ids),
        about=file.about,
        notices=tuple(file.notices),
    )


def _events(file: _File, path: str) -> Iterator[TraceEvent]:
    last_seconds = -math.inf
    for i, (time_seconds, kind, block, size, op, seconds, *after) in enumerate(file.events):
        if not 0 <= op < len(file.op_names):
            raise RunFileError(f"{path}: events[{i}]: op {op} of {len(file.op_names)} names")
        if seconds < 0 or min(block, size, *after) < 0:
            raise RunFileError(f"{path}: events[{i}]: a figure is below 0")
        if time_seconds < last_seconds:
            raise RunFileError(f"{path}: events[{i}]: earlier than the event before it")
        last_seconds = time_seconds
        yield TraceEvent(time_seconds, kind, block, size, file.op_names[op], seconds, *after)


def _check_simulation(simulation: Simulation, trace: Trace, path: str) -> None:
    ops, blocks = len(trace.ops), len(trace.blocks)
    if not len(simulation.op_begin_seconds) == len(simulation.op_end_seconds) == ops:
        raise RunFileError(f"{path}: simulation: not of {ops} ops, as the trace is")
    for copy in simulation.copies:
        if not 0 <= copy.block < blocks or copy.direction not in ("out", "in"):
            raise RunFileError(f"{path}: simulation.copies: {copy.direction} of {copy.block}")
    for stall in simulation.stalls:
        known = stall.block is None or 0 <= stall.block < blocks
        if not known or not 0 <= stall.op <= ops:
            raise RunFileError(f"{path}: simulation.stalls: op {stall.op}, block {stall.block}")


def _plain(value: Any) -> Any:
    """Makes what JSON can hold of a figure of NumPy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a run file cannot hold {type(value).__name__}")
