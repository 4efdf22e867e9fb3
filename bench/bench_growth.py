"""The cost of an allocation does not grow with the number of live blocks, nor with time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import swapmem
from bench.harness import Bar, Bars

FEW, MANY = 1_000, 100_000
ALLOCATIONS = 1_000_000
STEP = 50_000
# Twice as much leaves room for caches that no longer fit, and none for a search.
LIMIT = 2.0


def test_allocations_take_constant_time_with_many_live_blocks(benchmark: Any, bars: Bars) -> None:
    with swapmem.Manager(device="host", device_memory="12GiB") as memory:
        size = memory.engine.min_block_bytes
        live: list[Any] = []

        def grow_to(count: int) -> None:
            live.extend(np.empty(size, np.uint8) for _ in range(count - len(live)))

        def microseconds() -> float:
            begin = time.perf_counter()
            for _ in range(2_000):
                np.empty(size, np.uint8)
            return (time.perf_counter() - begin) / 2_000 * 1e6

        grow_to(FEW)
        microseconds()
        few = [microseconds() for _ in range(9)]
        grow_to(MANY)
        many: list[float] = []
        benchmark.pedantic(lambda: many.append(microseconds()), rounds=9)
        live.clear()
    bars.check(
        Bar(f"one allocation beside {MANY:,} blocks", "us", many, few, f"{FEW:,} blocks", LIMIT)
    )


def test_allocations_take_constant_time_for_ever(benchmark: Any, bars: Bars) -> None:
    random = np.random.default_rng(0)
    with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        sizes = (random.integers(1, 16, STEP) * memory.engine.min_block_bytes).tolist()

        def microseconds() -> float:
            # A queue of 64 arrays of mixed sizes: blocks are split among lifetimes that overlap.
            window: list[Any] = [None] * 64
            begin = time.perf_counter()
            for i, size in enumerate(sizes):
                window[i % 64] = np.empty(size, np.uint8)
            return (time.perf_counter() - begin) / STEP * 1e6

        microseconds()
        samples: list[float] = []
        benchmark.pedantic(lambda: samples.append(microseconds()), rounds=ALLOCATIONS // STEP)
    third = len(samples) // 3
    bars.check(
        Bar(
            f"the last of {ALLOCATIONS:,} allocations",
            "us",
            samples[-third:],
            samples[:third],
            "the first of them",
            1.5,
        )
    )
