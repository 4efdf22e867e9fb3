"""Random use of blocks on a GPU, checked against a model: ``python gpu_blocks.py SEED STEPS``.

Blocks are asked of the engine; their bytes come and go through the plain driver, so that nothing
but the engine decides what is where.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from swapmem import devices
from swapmem.cli.direct_file import pages
from swapmem.cli.pattern import Pattern
from swapmem.cli.raw_driver import Copy, Direction, Gpu

MIB = 1 << 20
BUDGET_BYTES = 64 * MIB
LIVE_BYTES = 4 * BUDGET_BYTES
LARGEST_BYTES = 24 * MIB


class Program:
    """An engine, and what has to be in its blocks.

    A block is (bytes, turn): the turn in which it was written says what is in it.
    """

    def __init__(self, gpu: Gpu, seed: int) -> None:
        self._gpu = gpu
        self._random = random.Random(seed)
        self._pattern = Pattern()
        self._host: NDArray[np.uint64] = pages(LARGEST_BYTES)
        gpu.pin(self._host)
        wish = devices.Wish(BUDGET_BYTES, LIVE_BYTES + 64 * MIB, None, None, False, False)
        self.engine = devices.make_engine(devices.Device("cuda:0", 0), wish)
        self._blocks: dict[int, tuple[int, int]] = {}
        self._turn = 0

    def step(self) -> None:
        live_bytes = sum(size for size, _ in self._blocks.values())
        if not self._blocks or (live_bytes < LIVE_BYTES and self._random.random() < 0.3):
            self._allocate()
            return
        address = self._random.choice(list(self._blocks))
        action = self._random.choice([self._write, self._check, self._out, self._in, self._free])
        action(address)
        self.engine.check_invariants()

    def finish(self) -> None:
        """Looks at every block, frees all, and sees that nothing is left."""
        for address in list(self._blocks):
            self._check(address)
            self._free(address)
        self.engine.drain()
        self.engine.trim()
        stats = self.engine.stats()
        assert stats["swap_out_bytes"] > 0
        assert stats["peak_charged_bytes"] <= BUDGET_BYTES
        assert (stats["live_bytes"], stats["charged_bytes"], stats["store_bytes"]) == (0, 0, 0)
        self.engine.check_invariants()
        del self.engine
        self._gpu.unpin(self._host)

    def _allocate(self) -> None:
        size = self._random.choice([512 << 10, 2 * MIB, 3 * MIB, 16 * MIB, LARGEST_BYTES])
        size -= 8 * self._random.randrange(2) * self._random.randrange(4096)
        address = self.engine.allocate(size)
        assert address not in self._blocks
        self._blocks[address] = (size, 0)
        self._write(address)

    def _write(self, address: int) -> None:
        size, _ = self._blocks[address]
        self._turn += 1
        self._blocks[address] = (size, self._turn)
        self._pattern.fill(self._host[: size // 8], self._turn)
        self._copy("in", address, size)

    def _check(self, address: int) -> None:
        size, turn = self._blocks[address]
        self._host.fill(0)
        self._copy("out", address, size)
        self._pattern.check(self._host[: size // 8], turn)

    def _copy(self, direction: Direction, address: int, size: int) -> None:
        stream = self._gpu.stream(direction)
        self.engine.begin_op(direction, [address], stream)
        try:
            self._gpu.copy_pinned([Copy(direction, self._host[: size // 8], address)], 4 * MIB)
        finally:
            self.engine.end_op([], stream)
        self._offer([address])

    def _offer(self, addresses: Sequence[int]) -> None:
        """Says that the blocks are announced before they are used again, as ops do here."""
        self.engine.offer(addresses)

    def _out(self, address: int) -> None:
        ticket = self.engine.swap_out(address)
        if self._random.random() < 0.5:
            ticket.wait()

    def _in(self, address: int) -> None:
        ticket = self.engine.swap_in(address)
        if self._random.random() < 0.5:
            ticket.wait()
        self._offer([address])

    def _free(self, address: int) -> None:
        del self._blocks[address]
        self.engine.free(address)


def main(seed: int, steps: int) -> None:
    with Gpu(0) as gpu:
        program = Program(gpu, seed)
        for _ in range(steps):
            program.step()
        program.finish()
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
