"""How fast an engine's link copies: as an iteration saw it, or measured with blocks of its own."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swapmem.planner.trace import Machine, Rates

if TYPE_CHECKING:
    from swapmem._core import Engine

_COUNT = 4
_MOST_BYTES = 32 << 20
_LEAST_BYTES = 1 << 20
# The share of the budget that the blocks take together: others are evicted for them.
_SHARE = 4
# So much has to be copied each way before a rate is believed.
_TELLING_BYTES = 4 << 20
#: Where nothing was measured yet, as nothing had to be copied.
UNKNOWN = Rates(1e9, 1e9, 1e9, 1e9)


def reached(before: Mapping[str, Any], after: Mapping[str, Any]) -> Rates | None:
    """The rates of the copies between two moments, beside whatever ran meanwhile.

    A link that is measured while nothing computes is several times as fast. Where too little was
    copied one way alone, or both ways at once, to tell these apart, one rate stands for both.

    Args:
        before: ``Manager.stats()`` of the first.
        after: of the second.

    Returns:
        The rates, in bytes a second; None if too little was copied to tell.

    Example:
        >>> before = memory.stats()
        >>> optimizer.update(model, images, labels)
        >>> reached(before, memory.stats())
    """

    def grown(name: str) -> float:
        return float(after[name] - before[name])

    both_seconds = grown("duplex_busy_seconds")
    alone, duplex = {}, {}
    for way in ("out", "in"):
        moved, seconds = grown(f"swap_{way}_bytes"), grown(f"swap_{way}_busy_seconds")
        if moved < _TELLING_BYTES or seconds <= 0:
            return None
        moved_in_both = grown(f"swap_{way}_duplex_bytes")
        if min(moved_in_both, moved - moved_in_both) < _TELLING_BYTES:
            alone[way] = duplex[way] = moved / seconds
        else:
            duplex[way] = moved_in_both / both_seconds
            alone[way] = (moved - moved_in_both) / (seconds - both_seconds)
    return Rates(alone["out"], alone["in"], duplex["out"], duplex["in"])


def slower(machine: Machine, factor: float) -> Machine:
    """The machine with a link that copies so many times as fast."""
    link = machine.link
    return replace(
        machine,
        link=replace(
            link,
            out_bytes_per_second=link.out_bytes_per_second * factor,
            in_bytes_per_second=link.in_bytes_per_second * factor,
            duplex_out_bytes_per_second=link.duplex_out_bytes_per_second * factor,
            duplex_in_bytes_per_second=link.duplex_in_bytes_per_second * factor,
        ),
    )


def measure(engine: Engine, budget_bytes: int, stream: int = 0, device: str = "host") -> Rates:
    """Copies blocks out and in, one direction at a time and then both.

    Takes some tenths of a second; what is in memory may be swapped out meanwhile.

    Args:
        engine: whose link is measured; no op is open in the calling thread.
        budget_bytes: its budget.
        stream: the current stream, 0 on the host.
        device: "host" or "cuda:N".

    Returns:
        The rates.

    Raises:
        OutOfMemory: so much is pinned that no four blocks fit.
        StoreError: a copy failed.

    Example:
        >>> rates = measure(memory.engine, memory.stats()["budget_bytes"])  # doctest: +SKIP
        >>> rates.out_bytes_per_second  # doctest: +SKIP
        1.4e9
    """
    size = max(_LEAST_BYTES, min(_MOST_BYTES, budget_bytes // _SHARE // _COUNT))
    blocks: list[int] = []
    try:
        for number in range(_COUNT):
            blocks.append(engine.allocate(size, stream))
            if device == "host":
                ctypes.memset(blocks[-1], number + 1, size)
        half = _COUNT // 2
        _seconds(engine, blocks, [], stream)  # the store takes its space now
        in_seconds = _seconds(engine, [], blocks, stream)
        if device == "host":
            for block in blocks:
                ctypes.memset(block, 1, 1)  # the copy is no longer good: the next one is made anew
        out_seconds = _seconds(engine, blocks, [], stream)
        _seconds(engine, [], blocks[:half], stream)
        if device == "host":
            for block in blocks[:half]:
                ctypes.memset(block, 2, 1)
        both_seconds = _seconds(engine, blocks[:half], blocks[half:], stream)
        total = _COUNT * size
        return Rates(
            out_bytes_per_second=total / out_seconds,
            in_bytes_per_second=total / in_seconds,
            duplex_out_bytes_per_second=min(total / 2 / both_seconds, total / out_seconds),
            duplex_in_bytes_per_second=min(total / 2 / both_seconds, total / in_seconds),
        )
    finally:
        for block in blocks:
            with contextlib.suppress(Exception):
                engine.free(block, stream)


def _seconds(engine: Engine, out: Sequence[int], back: Sequence[int], stream: int) -> float:
    """How long it takes until these are out and those are back."""
    begun = time.perf_counter()
    asked: list[Callable[[], None]] = [engine.swap_in(block, stream).wait for block in back]
    asked += [engine.swap_out(block, stream).wait for block in out]
    for wait in asked:
        wait()
    return max(time.perf_counter() - begun, 1e-9)
