"""What the page shows, as JSON can hold it: rows instead of objects, to keep the file small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swapmem.explain import spans
from swapmem.explain.decisions import decision, reasons
from swapmem.explain.figures import Figures, Lane, figures
from swapmem.explain.identity import block_name
from swapmem.explain.run_file import Run
from swapmem.explain.text import bound
from swapmem.explain.timeline import Copy, Timeline, memory_by_tier
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.trace import Block
from swapmem.sizes import format_bytes

_LONGEST = 10
# A ten-millionth of a second: nothing that is drawn is finer.
_DIGITS = 7


def content(run: Run, timelines: Sequence[Timeline], iteration: int) -> dict[str, Any]:
    """Collects what the page shows.

    Args:
        run: where the timelines are from.
        timelines: the first one is shown first, and opens the page with its figures.
        iteration: which one was measured, counted as a list's elements are.
    """
    found = figures(run, timelines[0])
    times = [_round(time) for time in found.iteration_seconds]
    return {
        "tiles": [*_tiles(found), *_repeated(run)],
        "timelines": [_timeline(timeline) for timeline in timelines],
        "blocks": _blocks(run, timelines[0]),
        "touches": [op.touches for op in run.trace.ops] if run.trace else [],
        "iterations": {
            "seconds": times,
            "shown": range(len(times))[iteration] if times else None,
            "planned": found.planned_seconds,
            "bound": found.bound_seconds,
        },
    }


def _tiles(found: Figures) -> list[tuple[str, str, str]]:
    """(what, figure, remark) for each of the figures that the page opens with."""
    time = "one iteration"
    if found.bound_seconds:
        time = bound(found)
    budget = "no budget is known"
    if found.budget_bytes is not None:
        budget = f"of a budget of {format_bytes(found.budget_bytes)}"
    hidden = "-" if found.hidden_share is None else f"{found.hidden_share:.0%}"
    stalled = found.stall_seconds / found.seconds
    tiles = [
        ("time", f"{found.seconds:.3f} s", time),
        ("stalls", f"{found.stall_seconds:.3f} s", f"{stalled:.1%} of the time"),
        ("copies hidden", hidden, "of the time in which one was under way"),
        ("on the device", format_bytes(found.peak_bytes), budget),
        ("swapped out", format_bytes(found.swapped_out_peak_bytes), "the most at one time"),
        ("copied out", format_bytes(found.out.bytes), _rate(found.out)),
        ("copied in", format_bytes(found.in_.bytes), _rate(found.in_)),
    ]
    if found.out.misses is None or found.in_.misses is None:
        tiles.append(("plan", "none", "swapped out on demand"))
    else:
        size = format_bytes(found.out.miss_bytes + found.in_.miss_bytes)
        count = found.out.misses + found.in_.misses
        tiles.append(("plan misses", str(count), size if count else "every copy was planned"))
    if found.faults is not None:
        tiles.append(("faults", str(found.faults), "in all of the run"))
    return tiles


def _repeated(run: Run) -> list[tuple[str, str, str]]:
    segments = repeated_segments(run.trace) if run.trace else []
    if not segments:
        return []
    seconds = sum(segment.seconds for segment in segments)
    return [("recomputed", f"{seconds:.3f} s", f"of {len({s.name for s in segments})} segments")]


def _rate(lane: Lane) -> str:
    if lane.bytes_per_second is None:
        return "nothing moved"
    rate = f"{format_bytes(lane.bytes_per_second)}/s"
    if not lane.link_bytes_per_second:
        return rate
    return f"{rate}, {lane.bytes_per_second / lane.link_bytes_per_second:.0%} of the link"


def _timeline(timeline: Timeline) -> dict[str, Any]:
    moments, layers = memory_by_tier(timeline)
    stalls = timeline.stalls
    longest = timeline.longest_stalls(_LONGEST)
    places = {id(stall): i for i, stall in enumerate(stalls)}
    return {
        "source": timeline.source,
        "seconds": timeline.seconds,
        "waited": timeline.stall_seconds,
        "memory": {
            "times": [_round(moment) for moment in moments],
            "budget": timeline.tiers[0].limit_bytes,
            "tiers": [
                {
                    "name": tier.name,
                    "label": f"{tier.name}, at most {format_bytes(tier.peak_bytes)}",
                    "sizes": sizes,
                }
                for tier, sizes in zip(timeline.tiers, layers, strict=True)
            ],
        },
        "ops": [(*_times(op), op.index, op.name, op.phase, op.segment) for op in timeline.ops],
        "outs": _copies(timeline.outs),
        "ins": _copies(timeline.ins),
        "stalls": [
            (*_times(stall), stall.op, stall.op_name, stall.block, stall.cause, stall.why)
            for stall in stalls
        ],
        "longest": [places[id(stall)] for stall in longest],
        "waits": [
            (_round(begin), _round(end)) for begin, end in spans.union(timeline.open_spans(stalls))
        ],
    }


def _copies(copies: Sequence[Copy]) -> list[tuple[Any, ...]]:
    row_of = spans.rows([(copy.begin_seconds, copy.end_seconds) for copy in copies])
    return [
        (*_times(copy), row, copy.block, copy.name, copy.bytes, copy.planned)
        for row, copy in zip(row_of, copies, strict=True)
    ]


def _times(thing: Any) -> tuple[float, float]:
    return _round(thing.begin_seconds), _round(thing.end_seconds)


def _round(seconds: float) -> float:
    return round(seconds, _DIGITS)


def _blocks(run: Run, timeline: Timeline) -> list[dict[str, Any]]:
    if run.trace is None:
        return []
    moved: dict[int | None, int] = {}
    for copy in (*timeline.outs, *timeline.ins):
        moved[copy.block] = moved.get(copy.block, 0) + copy.bytes
    waited: dict[int | None, float] = {}
    for stall in timeline.stalls:
        waited[stall.block] = waited.get(stall.block, 0.0) + stall.seconds
    rows = []
    for i, (block, reason) in enumerate(zip(run.trace.blocks, reasons(run), strict=True)):
        rows.append(
            {
                "index": i,
                "name": block_name(run.trace.blocks, i),
                "bytes": block.bytes,
                "decision": decision(reason),
                "reason": reason.partition(": ")[2],
                "moved": moved.get(i, 0),
                "waited": _round(waited.get(i, 0.0)),
                "lives": _life(block),
                "born": block.born // 2 if block.born is not None and block.born % 2 else None,
            }
        )
    return rows


def _life(block: Block) -> str:
    if block.born is None and block.freed is None:
        return "all the time"
    begin = "from the iteration before" if block.born is None else f"from {_slot(block.born)}"
    end = "into the next iteration" if block.freed is None else f"until {_slot(block.freed)}"
    return f"{begin} {end}"


def _slot(slot: int) -> str:
    return f"op {slot // 2}" if slot % 2 else f"before op {slot // 2}"
