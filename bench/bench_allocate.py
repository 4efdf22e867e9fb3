"""Allocating and freeing an array whose block is cached, beside stock NumPy in the same process."""

from __future__ import annotations

import contextvars
import time
from typing import Any

import numpy as np
import pytest

import swapmem
from bench.harness import Bar, Bars, interleave

KIB, MIB = 1 << 10, 1 << 20
SIZES = [1 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB]
ROUNDS = 15


def label(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def empty(size: int, loops: int) -> float:
    """Returns microseconds for one allocation and its free."""
    begin = time.perf_counter()
    for _ in range(loops):
        np.empty(size, np.uint8)
    return (time.perf_counter() - begin) / loops * 1e6


def written(size: int, loops: int) -> float:
    """Returns microseconds for an array that is written once, which is what arrays are for."""
    begin = time.perf_counter()
    for _ in range(loops):
        np.empty(size, np.uint8).fill(1)
    return (time.perf_counter() - begin) / loops * 1e6


@pytest.mark.parametrize("size", SIZES, ids=label)
@pytest.mark.parametrize("measure", [empty, written], ids=["allocate and free", "and written"])
def test_a_cached_block_costs_no_more_than_stock_numpy(
    benchmark: Any, bars: Bars, size: int, measure: Any
) -> None:
    # NumPy's allocation handler is a context variable: this copy keeps the one NumPy comes with.
    stock = contextvars.copy_context()
    loops = 2000 if measure is empty else max(8, min(2000, 64 * MIB // size))
    with swapmem.Manager(device="host", device_memory="512MiB"):
        measure(size, 2)
        stock.run(measure, size, 2)
        ours, reference = interleave(
            benchmark,
            ours=lambda: measure(size, loops),
            reference=lambda: stock.run(measure, size, loops),
            rounds=ROUNDS,
        )
    what = "allocate, write, free" if measure is written else "allocate, free"
    # Writing takes as long on any warm memory: there the bar is not to lose.
    limit = 1.0 if size >= MIB and measure is empty else 1.05
    bars.check(Bar(f"{what} {label(size)}", "us", ours, reference, "stock NumPy", limit))
