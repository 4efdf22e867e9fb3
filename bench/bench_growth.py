"""The cost of an allocation does not grow with the number of live blocks, nor with time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import swapmem
from bench.harness import Bar, Bars

LIVE = 100_000
ALLOCATIONS = 1_000_000
STEP = 10_000
# Room for caches that no longer fit and for a noisy machine, and none for a search.
LIMIT = 1.5


def mixed_sizes(memory: swapmem.Manager) -> list[int]:
    """Sizes from one to sixteen times the smallest block."""
    random = np.random.default_rng(0)
    return list(random.integers(1, 17, STEP) * memory.engine.min_block_bytes)


def microseconds(sizes: list[int]) -> float:
    """Returns the time of one allocation with its free, 64 arrays being alive at any time."""
    window: list[Any] = [None] * 64
    begin = time.perf_counter()
    for i, size in enumerate(sizes):
        window[i % 64] = np.empty(size, np.uint8)
    return (time.perf_counter() - begin) / len(sizes) * 1e6


def compare_ends(bars: Bars, what: str, samples: list[float]) -> None:
    """Sets the last quarter of some samples against the first."""
    quarter = len(samples) // 4
    bars.check(Bar(what, "us", samples[-quarter:], samples[:quarter], "the first quarter", LIMIT))


def test_allocations_take_constant_time_with_many_live_blocks(benchmark: Any, bars: Bars) -> None:
    with swapmem.Manager(device="host", device_memory="12GiB") as memory:
        sizes = mixed_sizes(memory)
        live: list[Any] = []
        new: list[float] = []
        reused: list[float] = []

        def grow() -> None:
            begin = time.perf_counter()
            live.extend(np.empty(memory.engine.min_block_bytes, np.uint8) for _ in range(STEP // 5))
            new.append((time.perf_counter() - begin) / (STEP // 5) * 1e6)
            reused.append(microseconds(sizes))

        microseconds(sizes)
        benchmark.pedantic(grow, rounds=LIVE // (STEP // 5))
        live.clear()
    try:
        compare_ends(bars, f"a new block, up to {LIVE:,} live ones", new)
    finally:
        compare_ends(bars, f"a reused block, up to {LIVE:,} live ones", reused)


def test_allocations_take_constant_time_for_ever(benchmark: Any, bars: Bars) -> None:
    with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        sizes = mixed_sizes(memory)
        microseconds(sizes)
        samples: list[float] = []
        benchmark.pedantic(lambda: samples.append(microseconds(sizes)), rounds=ALLOCATIONS // STEP)
    compare_ends(bars, f"a reused block, up to {ALLOCATIONS:,} allocations", samples)
