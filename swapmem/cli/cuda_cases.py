"""Cases of the CUDA device: blocks beside the plain driver, and beside CuPy's pool.

Blocks are asked of the engine itself, and their bytes come and go through the plain driver: nothing
here but the allocator's cases needs CuPy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import swapmem
from swapmem import _core
from swapmem.cli.case import Case, Contest
from swapmem.cli.cuda_blocks import Blocks, PinnedHost, mapped, rounded
from swapmem.cli.direct_file import THREADS, DirectFile, pages
from swapmem.cli.host_blocks import Loop
from swapmem.cli.host_cases import KIB, MIB, TRANSFER_SIZES, size_label
from swapmem.cli.raw_driver import Copy, Direction, Gpu
from swapmem.cli.site import Device, Site
from swapmem.sizes import format_bytes

_BOTH_SIZES = [2 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]
_FILE_SIZES = [16 * MIB, 64 * MIB]
_PAGEABLE_SIZES = [1 * MIB, 16 * MIB, 256 * MIB]
_MAP_SIZES = [2 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]
_ALLOCATE_SIZES = [64 * KIB, 1 * MIB, 16 * MIB, 64 * MIB]
_PIN_BYTES = 256 * MIB
_TURN_BYTES = 512 * MIB
_MOST_BLOCKS = 128
_LOOPS = 1000


def cuda_cases(device: Device | None) -> list[Case]:
    """All cases of one GPU; of "cuda0" where there is none, to be listed and skipped."""
    ordinal = 0 if device is None else device.ordinal
    name = f"cuda{ordinal}"
    cases = []

    def add(
        action: str, size: int, description: str, unit: Any, ours: str, beside: str, run: Any
    ) -> None:
        cases.append(
            Case(
                key=f"{name}/{action}/{size_label(size)}",
                description=description,
                block_bytes=size,
                unit=unit,
                ours=ours,
                beside=beside,
                filter=partial(_fits, ordinal, size, action),
                run=partial(run, ordinal, size),
            )
        )

    # The least that can be mapped is a size worth looking at.
    for size in sorted({*TRANSFER_SIZES, 2 * MIB}):
        label = size_label(size)
        out, back = partial(_one_way, "out"), partial(_one_way, "in")
        pinned = "raw pinned copy"
        add("out", size, f"swap out blocks of {label}", "GB/s", "swap out, D2H", pinned, out)
        add("in", size, f"swap in blocks of {label}", "GB/s", "swap in, H2D", pinned, back)
    for size in _BOTH_SIZES:
        text = f"swap out and swap in at once, blocks of {size_label(size)}"
        add("both", size, text, "GB/s", "swap out and in", "raw pinned duplex copy", _both_ways)
    for size in _FILE_SIZES:
        text = f"swap blocks of {size_label(size)} through little pinned memory, {{}} a file"
        out, back = partial(_file, "out"), partial(_file, "in")
        loop = f"O_DIRECT, {THREADS} threads"
        add("file_out", size, text.format("to"), "GB/s", "swap out to a file", loop, out)
        add("file_in", size, text.format("from"), "GB/s", "swap in from a file", loop, back)
    for size in _PAGEABLE_SIZES:
        text = f"the driver's copy from and to ordinary memory, pieces of {size_label(size)}"
        out, back = partial(_pageable, "out"), partial(_pageable, "in")
        add("pageable_out", size, text, "GB/s", "raw pageable D2H", "raw pinned D2H", out)
        add("pageable_in", size, text, "GB/s", "raw pageable H2D", "raw pinned H2D", back)
    for size in _MAP_SIZES:
        label = size_label(size)
        text = f"a new block of {label} on fresh memory: create, map, set access"
        add("map", size, text, "us", "new block, fresh memory", "raw driver calls", _map)
        text = f"a new block of {label} on the memory of freed ones of twice the size"
        add("remap", size, text, "us", "new block, freed memory", "raw unmap, map", _remap)
    text = f"make {size_label(_PIN_BYTES)} of host memory fit for fast copies"
    add("pin", _PIN_BYTES, text, "GB/s", "touch, then register", "cuMemHostAlloc", _pin)
    for size in _ALLOCATE_SIZES:
        text = f"allocate and free a CuPy array of {size_label(size)} on cached memory"
        add("allocate", size, text, "us", "allocate, free", "CuPy's MemoryPool", _allocate)
    return cases


def block_count(block_bytes: int) -> int:
    """How many blocks a turn takes: 512 MiB of them, one at least, and no more than 128."""
    return max(1, min(_TURN_BYTES // block_bytes, _MOST_BLOCKS))


def _fits(ordinal: int, block_bytes: int, action: str, site: Site) -> str | None:
    needs_cupy = action == "allocate"
    device = next((device for device in site.devices if device.ordinal == ordinal), None)
    if device is None:
        return site.no_device
    if not device.vmm:
        return f"{device.name} has no virtual memory management"
    if block_bytes < _core.min_cuda_block_bytes and not needs_cupy:
        return (
            f"smaller than the smallest block on a GPU, {format_bytes(_core.min_cuda_block_bytes)}"
        )
    if needs_cupy and not site.cupy:
        return "CuPy is not installed"
    count = 2 * block_count(block_bytes)
    # The blocks, and the plain driver's memory beside them.
    device_bytes = 2 * count * max(block_bytes, device.granularity_bytes) + 256 * MIB
    if device_bytes > device.memory_bytes:
        return f"needs {format_bytes(device_bytes)} of device memory, {device.name} has " + (
            format_bytes(device.memory_bytes)
        )
    host_bytes = int(2.5 * count * block_bytes) + 256 * MIB
    if host_bytes > site.available_bytes:
        return (
            f"needs {format_bytes(host_bytes)} of host memory, "
            f"{format_bytes(site.available_bytes)} are available"
        )
    disk_bytes = count * block_bytes + 256 * MIB
    if action.startswith("file") and disk_bytes > site.disk_free_bytes:
        return (
            f"needs {format_bytes(disk_bytes)}, {format_bytes(site.disk_free_bytes)} are free in "
            "the spill directory"
        )
    return None


@contextlib.contextmanager
def _one_way(action: Direction, ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    size_bytes = block_bytes * count
    with (
        Gpu(ordinal) as gpu,
        PinnedHost(gpu, size_bytes) as host,
        mapped(gpu, size_bytes) as mapping,
        Blocks(gpu, ordinal, host.memory, block_bytes, count) as blocks,
    ):

        def ours() -> float:
            blocks.fill()
            out_seconds = blocks.out()
            in_seconds = blocks.back()
            blocks.check()
            return size_bytes / (out_seconds if action == "out" else in_seconds) / 1e9

        def beside() -> float:
            copy = Copy(action, host.memory, mapping.address)
            return size_bytes / gpu.copy_pinned([copy], block_bytes) / 1e9

        yield Contest(ours, beside)


@contextlib.contextmanager
def _both_ways(ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    count = block_count(block_bytes)
    half_bytes = block_bytes * count
    with (
        Gpu(ordinal) as gpu,
        PinnedHost(gpu, 2 * half_bytes) as host,
        mapped(gpu, 2 * half_bytes) as mapping,
        Blocks(gpu, ordinal, host.memory, block_bytes, 2 * count) as blocks,
    ):
        resident, away = blocks.addresses[:count], blocks.addresses[count:]
        blocks.fill(away)
        for address in away:
            blocks.engine.swap_out(address).wait()

        def ours() -> float:
            nonlocal resident, away
            blocks.fill(resident)
            seconds = blocks.seconds(
                [
                    move
                    for out, back in zip(resident, away, strict=True)
                    for move in ((blocks.engine.swap_out, out), (blocks.engine.swap_in, back))
                ]
            )
            blocks.check(away, turns_ago=1)
            resident, away = away, resident
            return 2 * half_bytes / seconds / 1e9

        def beside() -> float:
            words = half_bytes // 8
            copies = [
                Copy("out", host.memory[:words], mapping.address),
                Copy("in", host.memory[words:], mapping.address + half_bytes),
            ]
            return 2 * half_bytes / gpu.copy_pinned(copies, block_bytes) / 1e9

        yield Contest(ours, beside)


@contextlib.contextmanager
def _file(action: Direction, ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    count = max(block_count(block_bytes), 4)
    size_bytes = block_bytes * count
    # All but this goes through it and on to the file.
    pinned_bytes = max(size_bytes // 8, 2 * block_bytes)
    with (
        Gpu(ordinal) as gpu,
        PinnedHost(gpu, size_bytes) as host,
        DirectFile(site.spill_dir) as file,
        Blocks(
            *(gpu, ordinal, host.memory, block_bytes, count),
            pinned_bytes=pinned_bytes,
            spill_dir=site.spill_dir,
        ) as blocks,
    ):
        loop = Loop(file, block_bytes, size_bytes)

        def ours() -> float:
            blocks.fill()
            out_seconds = blocks.out()
            in_seconds = blocks.back()
            blocks.check()
            return size_bytes / (out_seconds if action == "out" else in_seconds) / 1e9

        def beside() -> float:
            out_seconds = loop.write()
            in_seconds = loop.read()
            return size_bytes / (out_seconds if action == "out" else in_seconds) / 1e9

        yield Contest(ours, beside)


@contextlib.contextmanager
def _pageable(
    direction: Direction, ordinal: int, block_bytes: int, site: Site
) -> Iterator[Contest]:
    size_bytes = block_bytes * block_count(block_bytes)
    pageable = pages(size_bytes)
    pageable.fill(0)
    with (
        Gpu(ordinal) as gpu,
        PinnedHost(gpu, size_bytes) as host,
        mapped(gpu, size_bytes) as mapping,
    ):

        def ours() -> float:
            copy = Copy(direction, pageable, mapping.address)
            return size_bytes / gpu.copy_pageable(copy, block_bytes) / 1e9

        def beside() -> float:
            copy = Copy(direction, host.memory, mapping.address)
            return size_bytes / gpu.copy_pinned([copy], block_bytes) / 1e9

        yield Contest(ours, beside)


@contextlib.contextmanager
def _map(ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    count = min(block_count(block_bytes), 16)
    budget_bytes = 2 * count * rounded(block_bytes)
    with (
        Gpu(ordinal) as gpu,
        PinnedHost(gpu, block_bytes) as host,
        Blocks(gpu, ordinal, host.memory, block_bytes, 0, budget_bytes) as blocks,
    ):

        def ours() -> float:
            begin = time.perf_counter()
            addresses = [blocks.engine.allocate(block_bytes) for _ in range(count)]
            seconds = time.perf_counter() - begin
            for address in addresses:
                blocks.engine.free(address)
            blocks.engine.trim()
            return seconds / count * 1e6

        def beside() -> float:
            begin = time.perf_counter()
            mappings = [gpu.map(rounded(block_bytes)) for _ in range(count)]
            seconds = time.perf_counter() - begin
            for mapping in mappings:
                gpu.unmap(mapping)
                gpu.free(mapping)
            return seconds / count * 1e6

        yield Contest(ours, beside)


@contextlib.contextmanager
def _remap(ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    # An even number: as many bytes in blocks of twice the size.
    count = max(2, min(block_count(block_bytes), 16))
    # No room for anything else: new blocks get the memory of freed ones.
    budget_bytes = count * rounded(block_bytes)
    with (
        Gpu(ordinal) as gpu,
        PinnedHost(gpu, block_bytes) as host,
        Blocks(gpu, ordinal, host.memory, block_bytes, 0, budget_bytes) as blocks,
        contextlib.ExitStack() as stack,
    ):
        engine = blocks.engine
        mappings = [stack.enter_context(mapped(gpu, block_bytes)) for _ in range(count)]

        def ours() -> float:
            for address in [engine.allocate(2 * block_bytes) for _ in range(count // 2)]:
                engine.free(address)
            begin = time.perf_counter()
            addresses = [engine.allocate(block_bytes) for _ in range(count)]
            seconds = time.perf_counter() - begin
            for address in addresses:
                engine.free(address)
            return seconds / count * 1e6

        def beside() -> float:
            begin = time.perf_counter()
            for mapping in mappings:
                gpu.unmap(mapping)
                gpu.map_again(mapping)
            return (time.perf_counter() - begin) / count * 1e6

        yield Contest(ours, beside)


@contextlib.contextmanager
def _pin(ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    with Gpu(ordinal) as gpu:

        def ours() -> float:
            begin = time.perf_counter()
            memory = pages(block_bytes)
            memory[:: 4 * KIB // 8] = 1
            gpu.pin(memory)
            seconds = time.perf_counter() - begin
            gpu.unpin(memory)
            return block_bytes / seconds / 1e9

        def beside() -> float:
            begin = time.perf_counter()
            address = gpu.host_alloc(block_bytes)
            seconds = time.perf_counter() - begin
            gpu.host_free(address)
            return block_bytes / seconds / 1e9

        yield Contest(ours, beside)


@contextlib.contextmanager
def _allocate(ordinal: int, block_bytes: int, site: Site) -> Iterator[Contest]:
    import cupy

    def microseconds() -> float:
        begin = time.perf_counter()
        for _ in range(_LOOPS):
            cupy.empty(block_bytes, cupy.uint8)
        return (time.perf_counter() - begin) / _LOOPS * 1e6

    with cupy.cuda.Device(ordinal):
        pool = cupy.cuda.MemoryPool()

        def beside() -> float:
            with cupy.cuda.using_allocator(pool.malloc):
                return microseconds()

        with swapmem.Manager(
            device=f"cuda:{ordinal}",
            device_memory=4 * block_bytes + 256 * MIB,
            host_memory=64 * MIB,
        ):
            yield Contest(microseconds, beside)
        pool.free_all_blocks()
