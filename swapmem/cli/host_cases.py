"""Cases of the host device: NumPy arrays that are swapped out to a file."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import mmap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import swapmem
from swapmem.cli.case import Case, Contest
from swapmem.cli.direct_file import CHUNK_BYTES, THREADS, DirectFile, Job, pages
from swapmem.cli.pattern import Pattern
from swapmem.cli.site import Site, in_memory
from swapmem.sizes import format_bytes

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
TRANSFER_SIZES = [64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1 * GIB]
_BOTH_SIZES = [256 * KIB, 4 * MIB, 64 * MIB, 256 * MIB]
_MAP_SIZES = [64 * KIB, 1 * MIB, 16 * MIB, 256 * MIB]
_ALLOCATE_SIZES = [64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB]
_TURN_BYTES = 256 * MIB
_MOST_BLOCKS = 1024
_LOOPS = 1000
# What mremap returns then: (void*)-1.
_FAILED = ctypes.c_void_p(-1).value

_Array = NDArray[np.uint64]


def size_label(size_bytes: int) -> str:
    """Writes a size as keys have it, such as "4MiB"."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size_bytes >= unit:
            return f"{size_bytes // unit}{name}"
    return f"{size_bytes // KIB}KiB"


def block_count(block_bytes: int) -> int:
    """How many blocks a turn takes: 256 MiB of them, one at least, and no more than 1024."""
    return max(1, min(_TURN_BYTES // block_bytes, _MOST_BLOCKS))


def host_cases() -> list[Case]:
    """All cases of the host device."""
    loop = f"O_DIRECT, {THREADS} threads"
    cases = []
    for size in TRANSFER_SIZES:
        label = size_label(size)
        for action, text in (("out", "swap out"), ("in", "swap in")):
            cases.append(
                Case(
                    key=f"host/{action}/{label}",
                    description=f"{text} NumPy arrays of {label}",
                    block_bytes=size,
                    unit="GB/s",
                    ours=text,
                    beside=loop,
                    filter=partial(_transfer_fits, size, 1),
                    run=partial(_one_way, size, action),
                )
            )
    for size in _BOTH_SIZES:
        label = size_label(size)
        cases.append(
            Case(
                key=f"host/both/{label}",
                description=f"swap out and swap in at once, arrays of {label}",
                block_bytes=size,
                unit="GB/s",
                ours="swap out and in",
                beside=f"{loop} each way",
                filter=partial(_transfer_fits, size, 2),
                run=partial(_both_ways, size),
            )
        )
    for size in _MAP_SIZES:
        label = size_label(size)
        cases += [
            Case(
                key=f"host/map/{label}",
                description=f"a new array of {label} on fresh memory, every page touched",
                block_bytes=size,
                unit="us",
                ours="new array",
                beside="mmap",
                filter=partial(_memory_fits, size),
                run=partial(_map, size),
            ),
            Case(
                key=f"host/unmap/{label}",
                description=f"swap out an array of {label} whose copy is still good",
                block_bytes=size,
                unit="us",
                ours="evict a clean block",
                beside="mremap",
                filter=partial(_transfer_fits, size, 1),
                run=partial(_unmap, size),
            ),
        ]
    for size in _ALLOCATE_SIZES:
        label = size_label(size)
        cases.append(
            Case(
                key=f"host/allocate/{label}",
                description=f"allocate and free an array of {label} on warm memory",
                block_bytes=size,
                unit="us",
                ours="allocate, free",
                beside="stock NumPy",
                filter=partial(_memory_fits, size),
                run=partial(_allocate, size),
            )
        )
    return cases


def _transfer_fits(block_bytes: int, ways: int, site: Site) -> str | None:
    turn_bytes = block_count(block_bytes) * block_bytes * ways
    # The arrays, the memory of the loop beside them, and what allocation rounds up.
    memory_bytes = int(2.25 * turn_bytes) + 64 * MIB
    # A file each.
    disk_bytes = int(2.25 * turn_bytes) + 256 * MIB
    if in_memory(site.file_system):
        memory_bytes += disk_bytes
    if memory_bytes > site.available_bytes:
        return _lacks(memory_bytes, site.available_bytes, "of memory are available")
    if disk_bytes > site.disk_free_bytes:
        return _lacks(disk_bytes, site.disk_free_bytes, "are free in the spill directory")
    return None


def _memory_fits(block_bytes: int, site: Site) -> str | None:
    memory_bytes = 2 * block_count(block_bytes) * block_bytes + 64 * MIB
    if memory_bytes > site.available_bytes:
        return _lacks(memory_bytes, site.available_bytes, "of memory are available")
    return None


def _lacks(needed_bytes: int, there_bytes: int, what: str) -> str:
    return f"needs {format_bytes(needed_bytes)}, {format_bytes(there_bytes)} {what}"


class _Blocks:
    """Arrays of one block each in a manager of their own; what is in them is known."""

    def __init__(self, site: Site, block_bytes: int, count: int) -> None:
        # NumPy's memory handler is a context variable: this copy keeps the one NumPy comes with.
        self._stock = contextvars.copy_context()
        self._pattern = Pattern()
        self._turn = 0
        self.bytes = block_bytes * count
        self._managed = _managed(site, self.bytes)
        self._block_bytes = block_bytes
        self._count = count
        self.arrays: list[_Array] = []

    def __enter__(self) -> _Blocks:
        self.memory = self._managed.__enter__()
        self.arrays = [np.empty(self._block_bytes // 8, np.uint64) for _ in range(self._count)]
        return self

    def __exit__(self, *error: Any) -> None:
        # A manager lives as long as its arrays do.
        self.arrays.clear()
        self._managed.__exit__(*error)

    def fill(self, arrays: Sequence[_Array] | None = None) -> None:
        """Writes every byte anew, so that no copy of before is good any more."""
        self._turn += 1
        for index, array in enumerate(self.arrays if arrays is None else arrays):
            with self.memory.pinned(array):
                self._stock.run(self._pattern.fill, array, self._turn, index)

    def check(self, arrays: Sequence[_Array] | None = None, turns_ago: int = 0) -> None:
        for index, array in enumerate(self.arrays if arrays is None else arrays):
            self._stock.run(self._pattern.check, array, self._turn - turns_ago, index)

    def out(self) -> float:
        return self.seconds([(self.memory.swap_out, array) for array in self.arrays])

    def back(self) -> float:
        return self.seconds([(self.memory.swap_in, array) for array in self.arrays])

    @staticmethod
    def seconds(moves: Sequence[tuple[Callable[[_Array], Any], _Array]]) -> float:
        """Returns seconds from the first call until the last block has moved."""
        begin = time.perf_counter()
        for ticket in [move(array) for move, array in moves]:
            ticket.wait()
        return time.perf_counter() - begin


@contextlib.contextmanager
def _managed(site: Site, size_bytes: int) -> Iterator[swapmem.Manager]:
    """Enters a manager with room for twice the bytes: nothing is swapped out of its own accord."""
    memory = swapmem.Manager(
        device="host", device_memory=2 * size_bytes + 64 * MIB, spill_dir=site.spill_dir
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


@contextlib.contextmanager
def _one_way(block_bytes: int, action: str, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    with DirectFile(site.spill_dir) as file:
        loop = Loop(file, block_bytes, block_bytes * count)
        with _Blocks(site, block_bytes, count) as blocks:

            def ours() -> float:
                blocks.fill()
                out_seconds = blocks.out()
                in_seconds = blocks.back()
                blocks.check()
                return blocks.bytes / (out_seconds if action == "out" else in_seconds) / 1e9

            def beside() -> float:
                # Read what was just written, as ours does: a disk's own cache treats both alike.
                out_seconds = loop.write()
                in_seconds = loop.read()
                return blocks.bytes / (out_seconds if action == "out" else in_seconds) / 1e9

            yield Contest(ours, beside)


@contextlib.contextmanager
def _both_ways(block_bytes: int, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    with DirectFile(site.spill_dir) as file:
        loop = Loop(file, block_bytes, 2 * block_bytes * count)
        loop.both()
        with _Blocks(site, block_bytes, 2 * count) as blocks:
            resident, away = blocks.arrays[:count], blocks.arrays[count:]
            blocks.fill(away)
            for array in away:
                blocks.memory.swap_out(array).wait()

            def ours() -> float:
                nonlocal resident, away
                blocks.fill(resident)
                seconds = blocks.seconds(
                    [
                        move
                        for out, back in zip(resident, away, strict=True)
                        for move in (
                            (blocks.memory.swap_out, out),
                            (blocks.memory.swap_in, back),
                        )
                    ]
                )
                blocks.check(away, turns_ago=1)
                resident, away = away, resident
                return blocks.bytes / seconds / 1e9

            def beside() -> float:
                return blocks.bytes / loop.both() / 1e9

            try:
                yield Contest(ours, beside)
            finally:
                resident, away = [], []


@contextlib.contextmanager
def _map(block_bytes: int, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    with _managed(site, count * block_bytes) as memory:

        def ours() -> float:
            begin = time.perf_counter()
            arrays = [np.empty(block_bytes // 8, np.uint64) for _ in range(count)]
            _touch(arrays)
            seconds = time.perf_counter() - begin
            arrays.clear()
            memory.trim()
            return seconds / count * 1e6

        def beside() -> float:
            begin = time.perf_counter()
            arrays = [pages(block_bytes) for _ in range(count)]
            _touch(arrays)
            return (time.perf_counter() - begin) / count * 1e6

        yield Contest(ours, beside)


def _touch(arrays: Sequence[_Array]) -> None:
    for array in arrays:
        array[:: mmap.PAGESIZE // 8] = 1


@contextlib.contextmanager
def _unmap(block_bytes: int, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    with _Blocks(site, block_bytes, count) as blocks:
        blocks.fill()
        blocks.out()
        mover = _Mover(block_bytes, count)

        def ours() -> float:
            blocks.back()
            blocks.check()
            return blocks.out() / count * 1e6

        def beside() -> float:
            return mover.seconds() / count * 1e6

        yield Contest(ours, beside)


class _Mover:
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
        _touch([self._from])

    def seconds(self) -> float:
        source, target = self._from.ctypes.data, self._to.ctypes.data
        size = self._block_bytes
        begin = time.perf_counter()
        for start in range(0, size * self._count, size):
            if self._mremap(source + start, size, size, self._FLAGS, target + start) == _FAILED:
                raise OSError(ctypes.get_errno(), "mremap refused")
        seconds = time.perf_counter() - begin
        self._from, self._to = self._to, self._from
        return seconds


@contextlib.contextmanager
def _allocate(block_bytes: int, site: Site) -> Iterator[Contest]:
    stock = contextvars.copy_context()

    def microseconds() -> float:
        begin = time.perf_counter()
        for _ in range(_LOOPS):
            np.empty(block_bytes, np.uint8)
        return (time.perf_counter() - begin) / _LOOPS * 1e6

    with _managed(site, block_bytes):
        yield Contest(microseconds, lambda: stock.run(microseconds))
