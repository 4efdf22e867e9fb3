"""Traces and plans as JSON: the schema is docs/trace.md."""

from __future__ import annotations

import dataclasses
import os
import zlib
from gzip import BadGzipFile
from typing import Any, TypeVar

import msgspec

from swapmem.files import read_text, write_text
from swapmem.planner.errors import TraceError
from swapmem.planner.plan import Plan
from swapmem.planner.plan_check import check_plan
from swapmem.planner.trace import Trace
from swapmem.planner.trace_check import check

FORMAT = "swapmem trace"
VERSION = 1

_Value = TypeVar("_Value")


def save(trace: Trace, path: str | os.PathLike[str], plan: Plan | None = None) -> None:
    """Writes a trace, and a plan made for it, to a file: all of it or nothing.

    Args:
        trace: the trace.
        path: the file to write or replace; compressed if its name ends in ".gz".
        plan: the plan to go with it, if any.

    Raises:
        OSError: the file cannot be written; what stood there is untouched.

    Example:
        >>> save(trace, "resnet50.trace.json.gz")
    """
    write_text(path, msgspec.json.encode(trace_object(trace, plan)).decode() + "\n")


def load(path: str | os.PathLike[str]) -> tuple[Trace, Plan | None]:
    """Reads what `save` wrote.

    Args:
        path: the file; compressed if its name ends in ".gz".

    Returns:
        The trace, and the plan if one was saved with it.

    Raises:
        TraceError: it is no trace, of another version, truncated, or does not agree with itself;
            the message names the file and the place in it.
        OSError: it cannot be read.

    Example:
        >>> trace, plan = load("resnet50.trace.json.gz")
    """
    name = os.fspath(path)
    try:
        content = msgspec.json.decode(read_text(path))
    except (EOFError, zlib.error, BadGzipFile) as error:
        raise TraceError(f"truncated, or not compressed by gzip ({error})", name) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"truncated, or no JSON ({error})", name) from error
    return from_object(content, name)


def trace_object(trace: Trace, plan: Plan | None = None) -> dict[str, Any]:
    """A trace as JSON knows it: dicts, lists, strings and numbers.

    Args:
        trace: the trace.
        plan: the plan to go with it, if any.

    Returns:
        What `save` writes.
    """
    content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(trace)}
    return {**content, "plan": None if plan is None else plan_object(plan)}


def from_object(content: Any, path: str = "") -> tuple[Trace, Plan | None]:
    """The trace, and the plan, that `trace_object` made such an object of.

    Args:
        content: the object.
        path: the file that it comes from, for messages.

    Raises:
        TraceError: as from `load`.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TraceError(f'no trace: its "format" is not "{FORMAT}"', path)
    version = content.get("version")
    if version != VERSION:
        raise TraceError(
            f"it has version {version!r}, this swapmem reads version {VERSION}: record it again",
            path,
            "version",
        )
    trace = _convert(content, Trace, path)
    check(trace, path)
    if content.get("plan") is None:
        return trace, None
    return trace, plan_from_object(content["plan"], trace, path)


def plan_object(plan: Plan) -> dict[str, Any]:
    """A plan as JSON knows it.

    Args:
        plan: the plan.

    Returns:
        Its fields by name.
    """
    return dataclasses.asdict(plan)


def plan_from_object(content: Any, trace: Trace, path: str = "") -> Plan:
    """The plan that `plan_object` made such an object of.

    Args:
        content: the object.
        trace: what the plan was made for.
        path: the file that it comes from, for messages.

    Raises:
        TraceError: it is no plan, or none for this trace.
    """
    plan = _convert(content, Plan, path, "plan")
    check_plan(plan, trace, path)
    return plan


def _convert(content: Any, kind: type[_Value], path: str, within: str = "") -> _Value:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.ops[3].touches[0]`"
        message, _, place = str(error).partition(" - at ")
        place = place.strip("`").removeprefix("$").removeprefix(".")
        place = ".".join(part for part in (within, place) if part)
        raise TraceError(message, path, place) from error
