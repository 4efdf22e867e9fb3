"""A picture of predictions: the time of an iteration against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swapmem.planner.whatif import Row

SUFFIXES = (".png", ".svg", ".pdf")
_GIB = 1 << 30
_MIB = 1 << 20


def draw(rows: Sequence[Row], knee: Row | None, peak_bytes: int, path: Path) -> None:
    """Draws predicted time and bound over the budget, and marks the knee.

    Args:
        rows: predictions; those without a plan are left out.
        knee: the one to mark, if any.
        peak_bytes: what the iteration takes in core.
        path: the picture to write; its suffix says which format.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    curve = sorted((row for row in rows if row.feasible), key=lambda row: row.budget_bytes)
    unit, label = (_GIB, "GiB") if peak_bytes >= _GIB else (_MIB, "MiB")
    sizes = [row.budget_bytes / unit for row in curve]
    # A Figure of its own, without pyplot: no display is needed.
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    # Okabe and Ito's palette, as in swapmem.plot.
    axes.plot(sizes, [row.seconds for row in curve], "o-", color="#0072B2", label="predicted")
    axes.plot(sizes, [row.bound_seconds for row in curve], "--", color="#666666", label="bound")
    axes.axvline(peak_bytes / unit, color="#000000", linestyle=":", label="in core")
    if knee is not None:
        place = (knee.budget_bytes / unit, knee.seconds)
        axes.plot(*place, "D", color="#D55E00", markersize=10, fillstyle="none", label="knee")
        axes.annotate(
            f"{place[0]:.3g} {label}, {knee.slowdown:.2f}x",
            place,
            xytext=(8, 8),
            textcoords="offset points",
        )
    axes.set_xlabel(f"budget, {label}")
    axes.set_ylabel("seconds an iteration")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
