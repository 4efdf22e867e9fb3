"""Predictions as a table for people, as sentences, and as JSON for programs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from swapmem.planner import memory, preflight, whatif
from swapmem.planner.errors import PlanError
from swapmem.planner.joint import Recompute
from swapmem.planner.search import make_plan
from swapmem.planner.trace import Trace
from swapmem.planner.whatif import Row
from swapmem.sizes import format_bytes

#: Raised when a key of the JSON changes its meaning or goes away.
SCHEMA = 1
_WIDTH = 160


def table(rows: Sequence[Row], knee: Row | None, trace: Trace) -> str:
    """Lays out predictions, one budget a line, the largest first."""
    laid_out = Table(
        "budget", "of peak", "time, s", "of in core", "bound, s", "peak", "out", "in",
        "recomputed", "", box=box.SIMPLE,
    )  # fmt: skip
    for column in laid_out.columns[:-1]:
        column.justify = "right"
    for row in sorted(rows, key=lambda row: -row.budget_bytes):
        start = (format_bytes(row.budget_bytes), f"{row.fraction:.0%}")
        if not row.feasible:
            need = f"no plan: needs {format_bytes(row.needed_bytes)}"
            laid_out.add_row(*start, *("-" for _ in range(7)), need)
            continue
        laid_out.add_row(
            *start,
            f"{row.seconds:.3g}",
            f"{row.slowdown:.2f}x",
            f"{row.bound_seconds:.3g}",
            *(format_bytes(size) for size in (row.peak_bytes, row.out_bytes, row.in_bytes)),
            str(row.recomputed),
            "knee" if row is knee else "",
        )
    link = trace.machine.link
    about = (
        f"{len(trace.ops)} ops, {len(trace.blocks)} blocks; in core "
        f"{format_bytes(memory.peak(trace))}; link {link.out_bytes_per_second / 1e9:.3g} GB/s out, "
        f"{link.in_bytes_per_second / 1e9:.3g} GB/s in. Predicted, not measured."
    )
    return f"{about}\n{_rendered(laid_out)}"


def fit(
    trace: Trace,
    budgets: Sequence[int],
    slowdown: float,
    recompute: Recompute,
    batch: int | None,
    insize: int | None,
) -> Iterator[str]:
    """Says which budget is enough, and what each budget is enough for."""
    row = whatif.smallest_budget(trace, slowdown, recompute=recompute)
    yield (
        f"smallest budget for {slowdown:g}x: {row.budget_bytes:,} bytes "
        f"({format_bytes(row.budget_bytes)}, {row.fraction:.0%} of the peak): "
        f"{row.seconds:.3g} s, {row.slowdown:.2f}x"
    )
    yield (f"smallest budget at all: {row.needed_bytes:,} bytes ({format_bytes(row.needed_bytes)})")
    for budget in budgets:
        for limit in (None, slowdown):
            within = "at any speed" if limit is None else f"within {limit:g}x"
            try:
                scale = whatif.largest_scale(trace, budget, limit, recompute=recompute)
            except PlanError as error:
                yield f"{format_bytes(budget)} {within}: {error}"
                continue
            parts = [f"{scale:.2f} times the size of the trace"]
            if batch is not None:
                parts.append(f"batch {int(batch * scale)}")
            if insize is not None:
                parts.append(f"insize {int(insize * scale**0.5)}")
            yield f"largest in {format_bytes(budget)} {within}: {', or '.join(parts)}"


def reasons(trace: Trace, budgets: Sequence[int], recompute: Recompute) -> str:
    """Says of each block why it is kept, swapped or recomputed, for the smallest budget given."""
    budget = min(budgets, default=trace.machine.budget_bytes)
    if preflight.smallest_budget(trace) > budget:
        return f"no plan exists for {format_bytes(budget)}"
    plan = make_plan(trace, replace(trace.machine, budget_bytes=budget), recompute)
    laid_out = Table("block", "bytes", f"with {format_bytes(budget)}", box=box.SIMPLE)
    for index, (block, reason) in enumerate(zip(trace.blocks, plan.reasons, strict=True)):
        laid_out.add_row(f"{index} {block.name}", f"{block.bytes:,}", reason)
    return _rendered(laid_out)


def record(trace: Trace, rows: Sequence[Row], knee: Row | None) -> dict[str, Any]:
    """Returns the predictions, fit for JSON."""
    return {
        "schema": SCHEMA,
        "made_by": "swapmem plan",
        "in_core_bytes": memory.peak(trace),
        "link": asdict(trace.machine.link),
        "knee_budget_bytes": None if knee is None else knee.budget_bytes,
        "rows": [asdict(row) for row in rows],
    }


def _rendered(laid_out: Table) -> str:
    console = Console(highlight=False, width=_WIDTH, file=io.StringIO())
    console.print(laid_out)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().strip("\n").splitlines()
    return "\n".join(line.rstrip() for line in lines)
