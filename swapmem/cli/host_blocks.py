"""What the cases of the host device are made of: arrays in a manager, and the same without one."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import mmap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import swapmem
from swapmem.cli.direct_file import CHUNK_BYTES, DirectFile, Job, pages
from swapmem.cli.pattern import Pattern
from swapmem.cli.site import Site

# What mremap returns then: (void*)-1.
_FAILED = ctypes.c_void_p(-1).value
_SLACK_BYTES = 64 << 20

_Array = NDArray[np.uint64]


class Blocks:
    """Arrays of one block each in a manager of their own; what is in them is known."""

    def __init__(self, site: Site, block_bytes: int, count: int) -> None:
        # NumPy's memory handler is a context variable: this copy keeps the one NumPy comes with.
        self._stock = contextvars.copy_context()
        self._pattern = Pattern()
        self._turn = 0
        self.bytes = block_bytes * count
        self._site = site
        self._stack = contextlib.ExitStack()
        self._block_bytes = block_bytes
        self._count = count
        self.arrays: list[_Array] = []

    def __enter__(self) -> Blocks:
        with contextlib.ExitStack() as stack:
            self.memory = stack.enter_context(managed(self._site, self.bytes))
            # A manager lives as long as its arrays do.
            stack.callback(self.arrays.clear)
            for _ in range(self._count):
                self.arrays.append(np.empty(self._block_bytes // 8, np.uint64))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def fill(self, arrays: Sequence[_Array] | None = None) -> None:
        """Writes every byte anew, so that no copy of before is good any more."""
        self._turn += 1
        for index, array in enumerate(self.arrays if arrays is None else arrays):
            with self.memory.pinned(array):
                self._stock.run(self._pattern.fill, array, self._turn, index)

    def check(self, arrays: Sequence[_Array] | None = None, turns_ago: int = 0) -> None:
        """Looks at every byte of what `fill` wrote last, or some turns ago."""
        for index, array in enumerate(self.arrays if arrays is None else arrays):
            self._stock.run(self._pattern.check, array, self._turn - turns_ago, index)

    def out(self) -> float:
        """Swaps all blocks out; returns seconds."""
        return self.seconds([(self.memory.swap_out, array) for array in self.arrays])

    def back(self) -> float:
        """Swaps all blocks in; returns seconds."""
        return self.seconds([(self.memory.swap_in, array) for array in self.arrays])

    @staticmethod
    def seconds(moves: Sequence[tuple[Callable[[_Array], Any], _Array]]) -> float:
        """Returns seconds from the first call until the last block has moved."""
        begin = time.perf_counter()
        for ticket in [move(array) for move, array in moves]:
            ticket.wait()
        return time.perf_counter() - begin


@contextlib.contextmanager
def managed(site: Site, size_bytes: int) -> Iterator[swapmem.Manager]:
    """Enters a manager with room for twice the bytes: nothing is swapped out of its own accord."""
    memory = swapmem.Manager(
        device="host", device_memory=2 * size_bytes + _SLACK_BYTES, spill_dir=site.spill_dir
    )
    with contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            # What the manager says of the spill directory, `swapmem doctor` says too.
            warnings.simplefilter("ignore", RuntimeWarning)
            stack.enter_context(memory)
        yield memory


class Loop:
    """The same bytes through plain O_DIRECT, out of memory that nobody manages."""

    def __init__(self, file: DirectFile, block_bytes: int, size_bytes: int) -> None:
        self._file = file
        self._pattern = Pattern()
        self._chunk_bytes = min(block_bytes, CHUNK_BYTES)
        self._turn = 0
        self.memory = pages(size_bytes)
        file.reserve(size_bytes)

    def write(self) -> float:
        """Writes all of it anew; returns seconds."""
        self._turn += 1
        self._pattern.fill(self.memory, self._turn)
        return self._file.move([Job("write", self.memory, 0)], self._chunk_bytes)

    def read(self) -> float:
        """Reads what was written, and looks at every byte; returns seconds."""
        self.memory.fill(0)
        seconds = self._file.move([Job("read", self.memory, 0)], self._chunk_bytes)
        self._pattern.check(self.memory, self._turn)
        return seconds

    def both(self) -> float:
        """Writes one half of the memory and reads the other, by turns."""
        self._turn += 1
        half = self.memory.size // 2
        halves = [self.memory[:half], self.memory[half:]]
        offsets = [0, half * 8]
        out, back = self._turn % 2, 1 - self._turn % 2
        self._pattern.fill(halves[out], self._turn)
        halves[back].fill(0)
        seconds = self._file.move(
            [Job("write", halves[out], offsets[out]), Job("read", halves[back], offsets[back])],
            self._chunk_bytes,
        )
        if self._turn > 1:
            self._pattern.check(halves[back], self._turn - 1)
        return seconds


class Mover:
    """Moves touched pages to another address and back, by plain mremap."""

    _FLAGS = 1 | 2 | 4  # MREMAP_MAYMOVE, _FIXED, and _DONTUNMAP: both ranges stay this object's

    def __init__(self, block_bytes: int, count: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._mremap = libc.mremap
        self._mremap.restype = ctypes.c_void_p
        self._mremap.argtypes = (
            *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int),
            ctypes.c_void_p,
        )
        self._block_bytes = block_bytes
        self._count = count
        self._from, self._to = pages(block_bytes * count), pages(block_bytes * count)
        touch([self._from])

    def seconds(self) -> float:
        """Moves all of it to where it is not; returns seconds."""
        source, target = self._from.ctypes.data, self._to.ctypes.data
        size = self._block_bytes
        begin = time.perf_counter()
        for start in range(0, size * self._count, size):
            if self._mremap(source + start, size, size, self._FLAGS, target + start) == _FAILED:
                raise OSError(ctypes.get_errno(), "mremap refused")
        seconds = time.perf_counter() - begin
        self._from, self._to = self._to, self._from
        return seconds


def touch(arrays: Sequence[_Array]) -> None:
    """Writes to every page."""
    for array in arrays:
        array[:: mmap.PAGESIZE // 8] = 1
