"""The table at the end of ``make bench``, and its JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from bench.harness import ROOT, Bars

BARS = pytest.StashKey[Bars]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help="add the results to bench/results/DATE.json"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[BARS] = Bars()


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> Bars:
    return request.config.stash[BARS]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    bars = config.stash[BARS]
    if not bars.all and not bars.notices:
        return
    table = Table("what", "swapmem", "against", "", "ratio", "spread", "bar", "met")
    for bar in bars.all:
        low, high = bar.spread
        table.add_row(
            bar.what,
            f"{statistics.median(bar.ours):.3g} {bar.unit}",
            bar.against,
            f"{statistics.median(bar.reference):.3g} {bar.unit}",
            f"{bar.ratio:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{'>=' if bar.at_least else '<='} {bar.limit:g}",
            "yes" if bar.met else "NO",
        )
    terminalreporter.section("bars: ratios of medians of interleaved runs")
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, width=140, record=True)
        console.print(table)
        for notice in bars.notices:
            console.print("note:", notice, soft_wrap=True)
    terminalreporter.write_line(console.export_text())
    if config.getoption("--record"):
        path = ROOT / "bench" / "results" / f"{date.today()}.json"
        path.parent.mkdir(exist_ok=True)
        rows = [
            {**asdict(bar), "ratio": bar.ratio, "spread": bar.spread, "met": bar.met}
            for bar in bars.all
        ]
        measured = {row["what"] for row in rows}
        notices = bars.notices
        if path.exists():  # parts of a day's benchmarks come one after the other
            before = json.loads(path.read_text())
            rows = [row for row in before["bars"] if row["what"] not in measured] + rows
            told = {subject(note) for note in notices}
            notices = [note for note in before["notices"] if subject(note) not in told] + notices
        record = {"machine": machine(), "bars": rows, "notices": notices}
        path.write_text(json.dumps(record, indent=1) + "\n")
        terminalreporter.write_line(f"written to {path.relative_to(ROOT)}")


def subject(notice: str) -> str:
    """What a notice is about: what stands before its colon."""
    return notice.partition(":")[0]


def machine() -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names the machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / (1 << 30)),
        "architecture": platform.machine(),
        "linux": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
