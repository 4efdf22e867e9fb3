"""The report at the end of a run, as text."""

from collections.abc import Sequence
from typing import Any

from swapmem.sizes import format_bytes

_MOST_OPS = 10


def _rate(moved_bytes: int, busy_seconds: float) -> str:
    if busy_seconds <= 0:
        return "-"
    return f"{format_bytes(moved_bytes / busy_seconds)}/s"


def _tiers(stats: dict[str, Any]) -> list[str]:
    """What each tier of the store held at most, where there are several."""
    tiers = stats.get("store_tiers", [])
    if len(tiers) < 2:
        return []
    return [
        f"{tier['name']} {format_bytes(tier['peak_bytes'])} of {format_bytes(tier['budget_bytes'])}"
        for tier in tiers
    ]


def format_report(
    stats: dict[str, Any],
    notices: Sequence[str] = (),
    device: str = "",
    more: Sequence[str] = (),
) -> str:
    """Writes a report from `Manager.stats`.

    Args:
        stats: as `Manager.stats` returns them.
        notices: what the store has to say.
        device: the device, with why it is this one; "" leaves it out.
        more: what adapters have to say, a line each.

    Returns:
        Some twenty lines without a newline at the end.
    """
    b = format_bytes
    lines = [
        "swapmem report",
        *([f"  device   {device}"] if device else []),
        f"  memory   peak {b(stats['peak_charged_bytes'])} of a budget of "
        f"{b(stats['budget_bytes'])}; arrays at their peak {b(stats['peak_live_bytes'])}",
        f"  store    peak {b(stats['peak_store_bytes'])} of {b(stats['store_budget_bytes'])}"
        + "".join(f"; {tier}" for tier in _tiers(stats)),
        f"  out      {b(stats['swap_out_bytes'])} in {stats['swap_out_count']} copies, "
        f"{_rate(stats['swap_out_bytes'], stats['swap_out_busy_seconds'])} while busy; "
        f"{stats['clean_evictions']} evictions",
        f"  in       {b(stats['swap_in_bytes'])} in {stats['swap_in_count']} copies, "
        f"{_rate(stats['swap_in_bytes'], stats['swap_in_busy_seconds'])} while busy",
        f"  waits    {stats['stall_seconds']:.2f} s for memory or data, "
        f"{stats['fault_seconds']:.2f} s in {stats['faults']} unannounced touches",
        f"  arrays   {stats['allocations']} made, {stats['warm_hits']} of them on warm memory, "
        f"{stats['frees']} freed; now {b(stats['live_bytes'])}",
    ]
    if stats["transfer_errors"]:
        lines.append(f"  errors   {stats['transfer_errors']} copies failed; nothing was lost")
    if stats["largest_op"]:
        lines.append(
            f"  largest  {stats['largest_op']}: {b(stats['largest_op_bytes'])}, "
            "the smallest budget this program can run in"
        )
    if "chunk_bytes" in stats:
        lines.append(
            f"  small    {b(stats['small_bytes'])} of small arrays in chunks of "
            f"{b(stats['chunk_bytes'])}, which stay"
        )
    lines += [f"  {line}" for line in more]
    lines += [f"  notice   {notice}" for notice in notices]
    ops = [op for op in stats["by_op"] if op["op"]]
    ops.sort(key=lambda op: op["stall_seconds"], reverse=True)
    if ops:
        heading = "by op, longest waits first"
        lines.append(f"  {heading:34} calls  seconds    waits         in  faults")
    for op in ops[:_MOST_OPS]:
        times = f"{op['calls']:5d} {op['seconds']:8.2f} {op['stall_seconds']:8.2f}"
        lines.append(f"  {op['op'][:34]:34} {times} {b(op['swap_in_bytes']):>10} {op['faults']:7d}")
    return "\n".join(lines)
