"""Outcomes as a table for people and as JSON for programs."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.table import Table

import swapmem
from swapmem.cli.case import Case, Outcome
from swapmem.cli.site import Site, in_memory
from swapmem.files import write_text

#: Raised when a key of the JSON changes its meaning or goes away.
SCHEMA = 1

CUPY_DISTRIBUTIONS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def case_table(cases: Sequence[Case], site: Site) -> Table:
    """Lays out what there is to measure, and what of it can be measured here."""
    table = Table("case", "what it measures", "here", box=box.SIMPLE)
    table.columns[0].no_wrap = True
    for case in cases:
        table.add_row(case.key, case.description, case.filter(site) or "yes")
    return table


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Lays out medians, ratios and their spread, case by case."""
    table = Table("case", "what", "", "against", "", "ratio", "spread", "turns", box=box.SIMPLE)
    table.columns[0].no_wrap = True
    for index in (2, 4, 5, 6, 7):
        table.columns[index].justify = "right"
        table.columns[index].no_wrap = True
    for outcome in outcomes:
        if not outcome.measured:
            continue
        case = outcome.case
        low, high = outcome.ratio_spread
        table.add_row(
            case.key,
            case.ours,
            _figure(outcome.ours, case.unit),
            case.beside,
            _figure(outcome.beside, case.unit),
            f"{outcome.ratio:.2f}",
            f"{low:.2f}-{high:.2f}",
            str(len(outcome.ours)),
        )
    return table


def remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """Writes a line for each case that failed, and one for all that were skipped for one reason."""
    lines = [
        f"failed: {outcome.case.key}: {outcome.error}" for outcome in outcomes if outcome.error
    ]
    skipped: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.skipped:
            skipped.setdefault(outcome.skipped, []).append(outcome.case.key)
    for reason, keys in skipped.items():
        which = keys[0] if len(keys) == 1 else f"{len(keys)} cases, {keys[0]} to {keys[-1]}"
        lines.append(f"skipped: {which}: {reason}")
    return lines


def _figure(samples: Sequence[float], unit: str) -> str:
    return f"{statistics.median(samples):.3g} {unit}"


def record(outcomes: Sequence[Outcome], site: Site, seconds: float) -> dict[str, Any]:
    """Returns everything that was measured, fit for JSON; docs/cli.md explains the keys."""
    return {
        "schema": SCHEMA,
        "made_by": "swapmem bench",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds_per_case": seconds,
        "versions": versions(),
        "machine": machine(),
        "spill": {"file_system": site.file_system, "in_memory": in_memory(site.file_system)},
        "devices": [device._asdict() for device in site.devices],
        "no_device": site.no_device,
        "cases": [_outcome(outcome) for outcome in outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    return {
        "key": case.key,
        "description": case.description,
        "block_bytes": case.block_bytes,
        "unit": case.unit,
        "more_is_better": case.unit == "GB/s",
        "skipped": outcome.skipped,
        "error": outcome.error,
        "ours": {"name": case.ours, "samples": outcome.ours},
        "beside": {"name": case.beside, "samples": outcome.beside},
        "ratio": outcome.ratio if outcome.measured else None,
        "ratio_spread": list(outcome.ratio_spread) if outcome.measured else None,
    }


def versions() -> dict[str, str | None]:
    """Versions of what takes part; None for what is not installed."""
    return {
        "swapmem": swapmem.__version__,
        "python": platform.python_version(),
        "numpy": installed("numpy"),
        "cupy": next(filter(None, map(installed, CUPY_DISTRIBUTIONS)), None),
        "chainer": installed("chainer"),
    }


def installed(distribution: str) -> str | None:
    """Returns the version of what is installed, without importing it; None for what is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(psutil.virtual_memory().total),
        "architecture": platform.machine(),
        "linux": ".".join(platform.release().split(".")[:2]),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    write_text(path, json.dumps(content, indent=1) + "\n")
