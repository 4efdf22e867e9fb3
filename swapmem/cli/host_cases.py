"""Cases of the host device: NumPy arrays that are swapped out to a file."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

from swapmem.cli.case import Case, Contest
from swapmem.cli.direct_file import THREADS, DirectFile, pages
from swapmem.cli.host_blocks import Blocks, Loop, Mover, managed, touch
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


@contextlib.contextmanager
def _one_way(block_bytes: int, action: str, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    with DirectFile(site.spill_dir) as file:
        loop = Loop(file, block_bytes, block_bytes * count)
        with Blocks(site, block_bytes, count) as blocks:

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
        with Blocks(site, block_bytes, 2 * count) as blocks:
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
    with managed(site, count * block_bytes) as memory:

        def ours() -> float:
            begin = time.perf_counter()
            arrays = [np.empty(block_bytes // 8, np.uint64) for _ in range(count)]
            touch(arrays)
            seconds = time.perf_counter() - begin
            arrays.clear()
            memory.trim()
            return seconds / count * 1e6

        def beside() -> float:
            begin = time.perf_counter()
            arrays = [pages(block_bytes) for _ in range(count)]
            touch(arrays)
            return (time.perf_counter() - begin) / count * 1e6

        yield Contest(ours, beside)


@contextlib.contextmanager
def _unmap(block_bytes: int, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    with Blocks(site, block_bytes, count) as blocks:
        blocks.fill()
        blocks.out()
        mover = Mover(block_bytes, count)

        def ours() -> float:
            blocks.back()
            blocks.check()
            return blocks.out() / count * 1e6

        def beside() -> float:
            return mover.seconds() / count * 1e6

        yield Contest(ours, beside)


@contextlib.contextmanager
def _allocate(block_bytes: int, site: Site) -> Iterator[Contest]:
    stock = contextvars.copy_context()

    def microseconds() -> float:
        begin = time.perf_counter()
        for _ in range(_LOOPS):
            np.empty(block_bytes, np.uint8)
        return (time.perf_counter() - begin) / _LOOPS * 1e6

    with managed(site, block_bytes):
        yield Contest(microseconds, lambda: stock.run(microseconds))
