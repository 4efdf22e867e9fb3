"""Pictures of a trace: which bytes were where, and when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from swapmem import TraceEvent

# Okabe and Ito's palette: told apart with any colour vision, and by lightness in print.
_RESIDENT, _LIVE, _BUDGET = "#56B4E9", "#666666", "#000000"
_LANES = (
    # label, kind, colour, what the label adds up
    ("swapped out", "swap_out", "#E69F00", "bytes"),
    ("swapped in", "swap_in", "#009E73", "bytes"),
    ("stalls", "stall", "#D55E00", "seconds"),
    ("faults", "fault", "#CC79A7", "seconds"),
)
_MIB = 1 << 20


class Iteration(NamedTuple):
    """One training iteration as part of a trace.

    Attributes:
        events: the events in it, oldest first.
        start_seconds: when it began, on the trace's clock.
        end_seconds: when it ended, on the trace's clock.
    """

    events: Sequence[TraceEvent]
    start_seconds: float
    end_seconds: float


def iterations(trace: Sequence[TraceEvent]) -> list[Iteration]:
    """Splits a trace where its iterations begin.

    Args:
        trace: what ``Manager.trace()`` returned, oldest event first.

    Returns:
        The complete iterations, that is those that another one follows. A trace in which no
        iteration was announced (no training loop, or none of Chainer's) counts as a single one.
    """
    starts = [i for i, event in enumerate(trace) if event.kind == "iteration"]
    if not trace:
        return []
    if len(starts) < 2:
        return [Iteration(trace, trace[0].time_seconds, trace[-1].time_seconds)]
    return [
        Iteration(trace[begin:end], trace[begin].time_seconds, trace[end].time_seconds)
        for begin, end in itertools.pairwise(starts)
    ]


def plot_residency(
    trace: Sequence[TraceEvent],
    path: str | Path,
    *,
    budget_bytes: int | None = None,
    iteration: int = -1,
    title: str | None = None,
) -> Path:
    """Draws the memory of one iteration over time, and the transfers below it.

    The upper part shows the resident bytes, the charged bytes under the budget line and, where
    the trace reaches back to the first allocation, the bytes of all blocks, resident or swapped
    out: the gap between the two is what the stores hold. The lower part has a lane each for
    swap-outs, swap-ins, stalls (an op or an allocation waited) and faults.

    Args:
        trace: what ``Manager.trace()`` returned, oldest event first.
        path: the picture to write; its suffix (.png, .svg, .pdf) says which format.
        budget_bytes: where to draw the budget line; None draws none.
        iteration: which of ``iterations(trace)``; the last one unless told.
        title: a heading of one line.

    Returns:
        The path of the picture.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the trace is empty.
        IndexError: the trace has fewer iterations.

    Example:
        >>> with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        ...     train()
        ...     swapmem.plot.plot_residency(
        ...         memory.trace(), "residency.png", budget_bytes=memory.stats()["budget_bytes"]
        ...     )
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'swapmem[plot]'") from error
    parts = iterations(trace)
    if not parts:
        raise ValueError("the trace is empty: nothing was allocated while the manager was active")
    part = parts[iteration]

    # A Figure of its own, without pyplot: no backend is chosen for the calling program.
    figure = Figure(figsize=(11, 6), layout="constrained")
    memory, lanes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    if title:
        figure.suptitle(title)
    _draw_memory(memory, part, _live_bytes(trace), budget_bytes)
    _draw_lanes(lanes, part)
    lanes.set_xlim(0, max(part.end_seconds - part.start_seconds, 1e-9))
    lanes.set_xlabel("seconds since the iteration began")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    path = Path(path)
    figure.savefig(path, dpi=150)
    return path


def _live_bytes(trace: Iterable[TraceEvent]) -> list[tuple[float, int]] | None:
    """Returns (time, bytes of all blocks) at each change, or None if the beginning is missing."""
    sizes: dict[int, int] = {}
    live = 0
    changes = []
    for event in trace:
        if event.kind == "allocate":
            sizes[event.block] = event.bytes
            live += event.bytes
        elif event.kind == "free":
            if event.block not in sizes:
                return None
            live -= sizes.pop(event.block)
        else:
            continue
        changes.append((event.time_seconds, live))
    return changes


def _draw_memory(
    axes: Any, part: Iteration, live: list[tuple[float, int]] | None, budget_bytes: int | None
) -> None:
    begin = part.start_seconds
    times = [event.time_seconds - begin for event in part.events]
    times.append(part.end_seconds - begin)

    def in_mib(values: list[int]) -> list[float]:
        # The last value holds until the iteration's end.
        return [value / _MIB for value in [*values, values[-1]]]

    resident = in_mib([event.resident_bytes for event in part.events])
    charged = in_mib([event.charged_bytes for event in part.events])
    axes.fill_between(times, resident, step="post", color=_RESIDENT, alpha=0.6, label="resident")
    axes.step(times, charged, where="post", color="#0072B2", linewidth=1.2, label="charged")
    if live:
        before = [value for time, value in live if time <= begin]
        points = [(0.0, before[-1] if before else 0)]
        points += [(time - begin, v) for time, v in live if begin < time <= part.end_seconds]
        points.append((times[-1], points[-1][1]))
        axes.step(
            [time for time, _ in points],
            [value / _MIB for _, value in points],
            where="post",
            color=_LIVE,
            linewidth=1.0,
            linestyle=":",
            label="all blocks, resident or swapped out",
        )
    if budget_bytes is not None:
        axes.axhline(
            budget_bytes / _MIB,
            color=_BUDGET,
            linestyle="--",
            linewidth=1.2,
            label=f"budget, {budget_bytes / _MIB:,.0f} MiB",
        )
    axes.set_ylabel("memory, MiB")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.08)
    axes.grid(alpha=0.25)


def _draw_lanes(axes: Any, part: Iteration) -> None:
    labels = []
    for lane, (label, kind, color, unit) in enumerate(_LANES):
        events = [event for event in part.events if event.kind == kind]
        total = sum(getattr(event, unit) for event in events)
        amount = f"{total / _MIB:,.0f} MiB" if unit == "bytes" else f"{total:.2f} s"
        labels.append(f"{label}, {amount}")
        # time_seconds is when it ended; what began earlier is cut at the iteration's start.
        rows = _stack(
            (
                max(event.time_seconds - event.seconds - part.start_seconds, 0.0),
                event.time_seconds - part.start_seconds,
            )
            for event in events
        )
        height = 0.8 / max(len(rows), 1)
        for row, bars in enumerate(rows):
            axes.broken_barh(
                [(begin, end - begin) for begin, end in bars],
                (lane - 0.4 + row * height, height),
                facecolors=color,
                # An edge keeps a transfer of a few microseconds visible.
                edgecolors=color,
                linewidth=0.4,
            )
    axes.set_yticks(range(len(_LANES)), labels)
    axes.set_ylim(len(_LANES) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)


def _stack(spans: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Spreads spans over as few rows as possible so that none overlaps another in its row."""
    rows: list[list[tuple[float, float]]] = []
    free_at: list[tuple[float, int]] = []
    for begin, end in sorted(spans):
        if free_at and free_at[0][0] <= begin:
            _, row = heapq.heappop(free_at)
        else:
            row = len(rows)
            rows.append([])
        rows[row].append((begin, end))
        heapq.heappush(free_at, (end, row))
    return rows
