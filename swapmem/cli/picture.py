"""A picture of outcomes: rates and times over the size of a block, beside what they are against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swapmem.cli.case import Outcome, Unit, spread
from swapmem.cli.host_cases import size_label

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's palette, as in swapmem.plot; shapes tell the lines apart as well.
_STYLES: dict[str, tuple[str, str]] = {
    "out": ("#E69F00", "o"),
    "in": ("#009E73", "s"),
    "both": ("#0072B2", "D"),
    "pageable_out": ("#D55E00", "v"),
    "pageable_in": ("#CC79A7", "^"),
    "file_out": ("#F0E442", "<"),
    "file_in": ("#56B4E9", ">"),
    "pin": ("#666666", "*"),
    "map": ("#009E73", "s"),
    "unmap": ("#E69F00", "o"),
    "remap": ("#E69F00", "o"),
    "allocate": ("#0072B2", "D"),
}
_UNITS: tuple[tuple[Unit, str], ...] = (
    ("GB/s", "rate, GB/s: more is better"),
    ("us", "time for one block, microseconds: less is better"),
)


def draw(outcomes: Sequence[Outcome], path: Path, heading: str) -> None:
    """Draws a row for each device: rates on the left, times on the right.

    Args:
        outcomes: of which what was measured is drawn.
        path: the picture to write; its suffix says which format.
        heading: one line.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: nothing was measured.
    """
    from matplotlib.figure import Figure

    measured = [outcome for outcome in outcomes if outcome.measured]
    if not measured:
        raise ValueError("nothing was measured: there is nothing to draw")
    devices = list(dict.fromkeys(outcome.case.device for outcome in measured))
    units = [unit for unit in _UNITS if any(o.case.unit == unit[0] for o in measured)]
    # A Figure of its own, without pyplot: no display is needed.
    figure = Figure(figsize=(7.5 * len(units), 1 + 4.4 * len(devices)), layout="constrained")
    figure.suptitle(heading)
    panels = figure.subplots(len(devices), len(units), squeeze=False)
    for row, device in enumerate(devices):
        for column, (unit, label) in enumerate(units):
            part = [o for o in measured if o.case.device == device and o.case.unit == unit]
            axes = panels[row][column]
            if part:
                _panel(axes, part, device, label)
            else:
                axes.set_visible(False)
    figure.savefig(path, dpi=150)


def _panel(axes: Any, outcomes: Sequence[Outcome], device: str, label: str) -> None:
    actions = list(dict.fromkeys(outcome.case.action for outcome in outcomes))
    for action in actions:
        part = sorted(
            (outcome for outcome in outcomes if outcome.case.action == action),
            key=lambda outcome: outcome.case.block_bytes,
        )
        sizes = [outcome.case.block_bytes for outcome in part]
        color, marker = _STYLES[action]
        ours = [statistics.median(outcome.ours) for outcome in part]
        beside = [statistics.median(outcome.beside) for outcome in part]
        case = part[0].case
        axes.plot(sizes, ours, color=color, marker=marker, markersize=5, label=case.ours)
        low, high = zip(*(spread(outcome.ours) for outcome in part), strict=True)
        axes.fill_between(sizes, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(
            sizes,
            beside,
            color=color,
            marker=marker,
            markersize=5,
            markerfacecolor="white",
            linestyle="--",
            linewidth=1.2,
            label=f"  {case.beside}",
        )
    sizes = sorted({outcome.case.block_bytes for outcome in outcomes})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [_tick(size) for size in sizes], rotation=30, ha="right")
    axes.set_xticks([], minor=True)
    axes.set_xlabel("size of a block")
    axes.set_title(device, loc="left")
    axes.set_ylabel(label)
    if outcomes[0].case.unit == "us":
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    # Beside the panel: there are too many lines for a corner to be free.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")


def _tick(size_bytes: int) -> str:
    label = size_label(size_bytes)
    return f"{label[:-3]} {label[-3:]}"
