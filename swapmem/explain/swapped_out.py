"""How many bytes were swapped out at each moment, which no event says outright."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swapmem.records import TraceEvent


def swapped_out(events: Sequence[TraceEvent], stats: Mapping[str, Any]) -> list[tuple[float, int]]:
    """Follows which blocks were out.

    What was out before the first event and never came back shows in no event: it is what is out at
    the end beside the blocks that were seen to leave.

    Args:
        events: of a run, oldest first.
        stats: of the same run, taken when the events were.

    Returns:
        (time_seconds, bytes) for each change, on the clock of the events; the first point is the
        first event's.
    """
    if not events:
        return []
    out: dict[int, int] = {}
    resident: set[int] = set()
    changes: list[tuple[float, int]] = []
    for event in events:
        block = event.block
        if event.kind == "allocate":
            resident.add(block)
        elif event.kind == "evict":
            resident.discard(block)
            out[block] = event.bytes
            changes.append((event.time_seconds, event.bytes))
        elif event.kind in ("swap_in", "free"):
            size = out.pop(block, None)
            if size is None and event.kind == "swap_in" and block not in resident:
                size = event.bytes
            if event.kind == "swap_in":
                resident.add(block)
            else:
                resident.discard(block)
            if size is not None:
                changes.append((event.time_seconds, -size))
    out_at_end = stats.get("live_bytes", 0) - stats.get("resident_bytes", 0)
    # Sizes of events and of statistics differ by the rounding to size classes.
    size = max(out_at_end - sum(size for _, size in changes), 0)
    points = [(events[0].time_seconds, size)]
    for time_seconds, change in changes:
        size = max(size + change, 0)
        points.append((time_seconds, size))
    return points
