"""The timeline as a picture: memory by tier, and what compute and copies did meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swapmem.explain import colors, spans
from swapmem.explain.timeline import PHASES, Copy, OpSpan, Timeline, memory_by_tier
from swapmem.sizes import format_bytes

SUFFIXES = (".png", ".svg", ".pdf")
_MIB = 1 << 20
# A name inside a bar takes about so much of the picture's width for each letter.
_LETTER_SHARE = 0.0065
_NUMBERED = 10
# Of numbers that are closer than this only that of the longest stall has room.
_NUMBER_SHARE = 0.011


def draw(timeline: Timeline, path: str | Path, heading: str = "") -> Path:
    """Draws an iteration.

    The upper part stacks what the device and the tiers of the store hold: its upper edge is what
    the iteration would need in core. The dashed line is the budget of the device. The lower part
    has lanes for compute, copies out, copies in and stalls; stalls are shaded through both parts,
    and the longest ones numbered as in the report.

    Args:
        timeline: measured or simulated.
        path: the picture to write; its suffix (.png, .svg, .pdf) says which format.
        heading: one line.

    Returns:
        The path of the picture.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.

    Example:
        >>> draw(measured(load_run("run.json.gz")), "timeline.png")
        PosixPath('timeline.png')
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'swapmem[plot]'") from error
    # A Figure of its own, without pyplot: no backend is chosen for the calling program.
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    memory, lanes = figure.subplots(2, 1, sharex=True, height_ratios=(5, 4))
    if heading:
        figure.suptitle(heading, fontsize="medium")
    _draw_memory(memory, timeline)
    _draw_lanes(lanes, timeline)
    for begin, end in spans.union(timeline.open_spans(timeline.stalls)):
        for axes, order in ((memory, 3), (lanes, 0)):
            axes.axvspan(begin, end, color=colors.STALL, alpha=0.15, linewidth=0, zorder=order)
    lanes.set_xlim(0, timeline.seconds)
    lanes.set_xlabel(f"seconds since the iteration began, {timeline.source}")
    path = Path(path)
    figure.savefig(path, dpi=130)
    return path


def _draw_memory(axes: Any, timeline: Timeline) -> None:
    moments, layers = memory_by_tier(timeline)
    moments.append(timeline.seconds)
    below = [0.0] * len(moments)
    for tier, sizes, color in zip(timeline.tiers, layers, itertools.cycle(colors.TIERS)):
        top = [low + size / _MIB for low, size in zip(below, [*sizes, sizes[-1]], strict=True)]
        label = f"{tier.name}, at most {format_bytes(tier.peak_bytes)}"
        axes.fill_between(moments, below, top, step="post", color=color, linewidth=0, label=label)
        below = top
    if timeline.charged:
        curve = [*timeline.charged, (timeline.seconds, timeline.charged[-1][1])]
        axes.step(
            [time for time, _ in curve],
            [size / _MIB for _, size in curve],
            where="post",
            color=colors.PHASES["forward"],
            linewidth=0.8,
            label="charged, with warm memory",
        )
    limit = timeline.tiers[0].limit_bytes
    if limit is not None:
        axes.axhline(
            limit / _MIB,
            color=colors.BUDGET,
            linestyle="--",
            linewidth=1.4,
            label=f"budget {format_bytes(limit)}",
        )
    axes.set_ylabel("memory, MiB")
    axes.set_ylim(0, max([*below, (limit or 0) / _MIB, 1e-6]) * 1.08)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")


def _draw_lanes(axes: Any, timeline: Timeline) -> None:
    _draw_ops(axes, timeline)
    _draw_copies(axes, 1, timeline, timeline.outs, colors.OUT)
    _draw_copies(axes, 2, timeline, timeline.ins, colors.IN)
    stalls = [
        (begin, end - begin) for begin, end in spans.union(timeline.open_spans(timeline.stalls))
    ]
    # An op's bar begins with what it waited for.
    axes.broken_barh(stalls, (-0.4, 0.8), facecolors=colors.WAITING, linewidth=0)
    axes.broken_barh(
        stalls,
        (2.6, 0.8),
        facecolors=colors.STALL,
        edgecolors=colors.STALL,
        linewidth=0.8,
    )
    taken: list[float] = []
    for number, stall in enumerate(timeline.longest_stalls(_NUMBERED), start=1):
        middle = (stall.begin_seconds + stall.end_seconds) / 2
        if any(abs(middle - other) < _NUMBER_SHARE * timeline.seconds for other in taken):
            continue
        taken.append(middle)
        axes.annotate(
            str(number),
            (middle, 2.56),
            ha="center",
            va="bottom",
            fontsize="x-small",
            color=colors.STALL,
            annotation_clip=True,
        )
    axes.set_yticks(
        range(4),
        [
            "compute",
            f"out, {format_bytes(timeline.copied_bytes(timeline.outs))}",
            f"in, {format_bytes(timeline.copied_bytes(timeline.ins))}",
            f"stalls, {timeline.stall_seconds:.3f} s",
        ],
    )
    axes.set_ylim(3.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    from matplotlib.patches import Patch

    present = {op.phase for op in timeline.ops}
    patches = [Patch(color=colors.PHASES[p], label=p) for p in PHASES if p in present]
    patches += [
        Patch(color=colors.OUT, label="copy to the store"),
        Patch(color=colors.IN, label="copy from the store"),
        Patch(color=colors.STALL, label="compute waits"),
    ]
    if any(copy.planned is False for copy in (*timeline.outs, *timeline.ins)):
        patches.append(
            Patch(facecolor="white", edgecolor="black", hatch="////", label="not planned")
        )
    axes.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small"
    )


def _draw_ops(axes: Any, timeline: Timeline) -> None:
    # Neighbours differ in shade: an edge around each would hide ops of a pixel's width.
    bars: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for number, op in enumerate(timeline.ops):
        look = (colors.PHASES[op.phase], (1.0, 0.7)[number % 2])
        bars.setdefault(look, []).append((op.begin_seconds, op.end_seconds - op.begin_seconds))
    for (color, alpha), spans_of_it in bars.items():
        axes.broken_barh(spans_of_it, (-0.4, 0.8), facecolors=color, alpha=alpha, linewidth=0)
    for op in timeline.ops:
        if _fits(op, timeline.seconds):
            axes.text(
                (op.begin_seconds + op.end_seconds) / 2,
                0,
                op.name,
                color="white",
                fontsize="x-small",
                ha="center",
                va="center",
                clip_on=True,
            )


def _fits(op: OpSpan, seconds: float) -> bool:
    return (op.end_seconds - op.begin_seconds) / seconds > _LETTER_SHARE * (len(op.name) + 1)


def _draw_copies(
    axes: Any, lane: int, timeline: Timeline, copies: Sequence[Copy], color: str
) -> None:
    row_of = spans.rows([(copy.begin_seconds, copy.end_seconds) for copy in copies])
    height = 0.8 / (max(row_of, default=0) + 1)
    for planned in (True, False):
        for row in range(max(row_of, default=-1) + 1):
            bars = [
                (copy.begin_seconds, copy.end_seconds - copy.begin_seconds)
                for copy, its_row in zip(copies, row_of, strict=True)
                if its_row == row and (copy.planned is not False) == planned
            ]
            axes.broken_barh(
                bars,
                (lane - 0.4 + row * height, height * 0.94),
                facecolors=color,
                # An edge keeps a copy of a few microseconds visible.
                edgecolors=color if planned else "black",
                linewidth=0.3,
                hatch="" if planned else "////",
            )
