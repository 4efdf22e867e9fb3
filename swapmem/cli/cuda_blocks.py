"""What the cases of the CUDA device are made of: blocks of an engine, and plain device memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swapmem import devices
from swapmem.cli.direct_file import pages
from swapmem.cli.pattern import Pattern
from swapmem.cli.raw_driver import Copy, Direction, Gpu, Mapping

MIB = 1 << 20

_Array = NDArray[np.uint64]


class PinnedHost:
    """Pinned host memory for the plain driver's copies."""

    def __init__(self, gpu: Gpu, size_bytes: int) -> None:
        self._gpu = gpu
        self.memory: _Array = pages(size_bytes)
        self.memory.fill(0)
        gpu.pin(self.memory)

    def __enter__(self) -> PinnedHost:
        return self

    def __exit__(self, *error: object) -> None:
        self._gpu.unpin(self.memory)


class Blocks:
    """Blocks of one size in an engine of their own; what is in them is known."""

    def __init__(
        self,
        gpu: Gpu,
        ordinal: int,
        host: _Array,
        block_bytes: int,
        count: int,
        budget_bytes: int | None = None,
        pinned_bytes: int | None = None,
        spill_dir: str | None = None,
    ) -> None:
        self._gpu = gpu
        self._host = host
        self._pattern = Pattern()
        self._turn = 0
        self.block_bytes = block_bytes
        self.bytes = block_bytes * count
        if budget_bytes is None:
            # Nothing is swapped out but what is asked for.
            budget_bytes = 2 * count * rounded(block_bytes) + 128 * MIB
        wish = devices.Wish(
            device_memory=budget_bytes,
            host_memory=int(1.25 * self.bytes) + 64 * MIB if pinned_bytes is None else pinned_bytes,
            spill_dir=spill_dir,
            spill_bytes=None,
            checksum=False,
            paranoid=False,
        )
        device = devices.Device(f"cuda:{ordinal}", ordinal)
        self.engine = devices.make_engine(device, wish)
        self.addresses: list[int] = []
        self._count = count

    def __enter__(self) -> Blocks:
        self.addresses = [self.engine.allocate(self.block_bytes) for _ in range(self._count)]
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.drain()
        for address in self.addresses:
            self.engine.free(address)
        self.addresses.clear()
        self.engine.trim()

    def fill(self, addresses: Sequence[int] | None = None) -> None:
        """Writes every byte anew, in an op, so that no copy of before is good any more."""
        self._turn += 1
        addresses = self.addresses if addresses is None else addresses
        with self._op(addresses, "in"):
            for index, address in enumerate(addresses):
                piece = self._piece(index)
                self._pattern.fill(piece, self._turn, index)
                self._gpu.copy_pinned([Copy("in", piece, address)], self.block_bytes)

    def check(self, addresses: Sequence[int] | None = None, turns_ago: int = 0) -> None:
        """Looks at every byte of what `fill` wrote last, or some turns ago."""
        addresses = self.addresses if addresses is None else addresses
        with self._op(addresses, "out"):
            for index, address in enumerate(addresses):
                piece = self._piece(index)
                piece.fill(0)
                self._gpu.copy_pinned([Copy("out", piece, address)], self.block_bytes)
                self._pattern.check(piece, self._turn - turns_ago, index)

    def out(self) -> float:
        """Swaps all blocks out; returns seconds."""
        return self.seconds([(self.engine.swap_out, address) for address in self.addresses])

    def back(self) -> float:
        """Swaps all blocks in; returns seconds."""
        return self.seconds([(self.engine.swap_in, address) for address in self.addresses])

    def seconds(self, moves: Sequence[tuple[Callable[[int], Any], int]]) -> float:
        """Returns seconds from the first call until the last block has moved and is unmapped."""
        begin = time.perf_counter()
        for ticket in [move(address) for move, address in moves]:
            ticket.wait()
        self.engine.drain()
        return time.perf_counter() - begin

    @contextlib.contextmanager
    def _op(self, addresses: Sequence[int], direction: Direction) -> Iterator[None]:
        stream = self._gpu.stream(direction)
        self.engine.begin_op("bench", addresses, stream)
        try:
            yield
        finally:
            self.engine.end_op([], stream)

    def _piece(self, index: int) -> _Array:
        words = self.block_bytes // 8
        return self._host[index * words : (index + 1) * words]


@contextlib.contextmanager
def mapped(gpu: Gpu, size_bytes: int) -> Iterator[Mapping]:
    """Device memory of the plain driver's."""
    mapping = gpu.map(rounded(size_bytes))
    try:
        yield mapping
    finally:
        gpu.unmap(mapping)
        gpu.free(mapping)


def rounded(size_bytes: int) -> int:
    """Rounds up to what can be mapped."""
    return -(-size_bytes // (2 * MIB)) * 2 * MIB
