"""Swapping out and in beside plain O_DIRECT on the same file system; TMPDIR says which."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import swapmem
from bench.direct_io import Direction, Fio, Loop, floor
from bench.harness import Bar, Bars, interleave

MIB = 1 << 20
TOTAL_BYTES = 1 << 30
ROUNDS = 7


@pytest.fixture(scope="module")
def direct() -> Iterator[Fio | Loop]:
    with tempfile.TemporaryDirectory(prefix="swapmem-bench-") as directory:
        yield floor(Path(directory) / "floor", TOTAL_BYTES)


class Blocks:
    """Arrays of one block each, whose contents can be told at any time."""

    def __init__(self, memory: swapmem.Manager, block_bytes: int) -> None:
        self._memory = memory
        self._step = 0
        count = TOTAL_BYTES // block_bytes
        self._base = np.random.default_rng(0).integers(1 << 60, size=block_bytes // 8)
        self.arrays: list[NDArray[np.int64]] = [self._base + i for i in range(count)]

    def write(self) -> None:
        """Changes every byte's worth of every block: a clean block would not have to move."""
        self._step += 1
        for array in self.arrays:
            array += 1

    def out(self) -> float:
        return self._rate(self._memory.swap_out)

    def back(self) -> float:
        return self._rate(self._memory.swap_in)

    def verify(self) -> None:
        for i, array in enumerate(self.arrays):
            np.testing.assert_array_equal(array, self._base + (i + self._step))

    def _rate(self, move: Any) -> float:
        """Returns bytes per second from the first call until the last block has moved."""
        begin = time.perf_counter()
        for ticket in [move(array) for array in self.arrays]:
            ticket.wait()
        return TOTAL_BYTES / (time.perf_counter() - begin)


@pytest.mark.parametrize("direction", ["write", "read"], ids=["out", "in"])
@pytest.mark.parametrize("block_bytes", [4 * MIB, 64 * MIB], ids=["4MiB", "64MiB"])
def test_blocks_move_as_fast_as_the_file_system(
    benchmark: Any, bars: Bars, direct: Fio | Loop, block_bytes: int, direction: Direction
) -> None:
    with swapmem.Manager(device="host", device_memory="1536MiB") as memory:
        blocks = Blocks(memory, block_bytes)
        # The store's file has its blocks given out by a first round trip.
        blocks.out()
        blocks.back()
        # Picks the setting of the floor.
        direct.rate(direction)

        def reference() -> float:
            blocks.write()
            if direction == "read":
                # Both files are as fresh: whatever caches the disk has treats them alike.
                direct.rate("write")
                blocks.out()
            return direct.rate(direction) / 1e9

        def ours() -> float:
            rate = blocks.out() if direction == "write" else blocks.back()
            if direction == "write":
                blocks.back()
            blocks.verify()
            return rate / 1e9

        rates, floors = interleave(benchmark, ours, reference, ROUNDS)
    name = "out" if direction == "write" else "in"
    bars.check(
        Bar(
            f"swap {name}, {block_bytes // MIB} MiB blocks",
            "GB/s",
            rates,
            floors,
            direct.describe(direction),
            0.90,
            at_least=True,
        )
    )
