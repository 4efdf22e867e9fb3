"""Which device a manager works on, how much of it, and the engine over it."""

from __future__ import annotations

import errno
import gc
import os
import re
import tempfile
from dataclasses import dataclass
from typing import Any

from swapmem import _core
from swapmem.errors import DeviceError, OutOfMemory, StoreError
from swapmem.sizes import format_bytes, parse_bytes

# On the host: a deep queue from one large array or from many small ones; bench/bench_transfers.py
# measures it.
_WORKERS = 4
_CHUNK_BYTES = 2 << 20
#: On a GPU larger arrays are several blocks: where two of them do not fit together, one can come in
#: while the other leaves. Smaller parts would mean more blocks to plan for.
PART_BYTES = 256 << 20
# What is used if nobody said how much: of the free space of a file system, of all RAM, of the
# device memory that is free, and of the available RAM for what is swapped out from a GPU.
_FREE_SPACE_SHARE = 0.9
_RAM_SHARE = 0.8
_DEVICE_SHARE = 0.9
_PINNED_SHARE = 0.5

Size = int | str | None


@dataclass(frozen=True)
class Device:
    """What a manager works on.

    Attributes:
        name: "host" or "cuda:N".
        ordinal: N; None for the host.
        why: why it is this one, where nobody asked for it by name.
    """

    name: str
    ordinal: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Wish:
    """What a manager was asked for; see its arguments."""

    device_memory: Size
    host_memory: Size
    spill_dir: str | os.PathLike[str] | None
    spill_bytes: Size
    checksum: bool
    paranoid: bool


def choose(device: str) -> Device:
    """Finds the device that a name stands for.

    Args:
        device: "host", "cuda:N", or "auto" for the first GPU that CuPy can use, else the host.

    Raises:
        ValueError: for another name.
        DeviceError: for a GPU that is not there or cannot be used; says why.
        ImportError: for a GPU where CuPy is not installed.

    Example:
        >>> choose("host").name
        'host'
    """
    if device == "host":
        return Device("host")
    if device == "auto":
        try:
            name = _check_cuda(0)
        except (DeviceError, ImportError) as error:
            return Device("host", why=f"no GPU is used: {error}")
        return Device("cuda:0", 0, f"{name} is there")
    match = re.fullmatch(r"cuda:(\d{1,4})", device)
    if match is None:
        raise ValueError(
            f"device {device!r} is not available; it can be 'auto', 'host' or 'cuda:N' with the "
            "number of a GPU"
        )
    _check_cuda(int(match[1]))
    return Device(f"cuda:{int(match[1])}", int(match[1]))


def _check_cuda(ordinal: int) -> str:
    """The name of a GPU that can be used."""
    devices = _core.cuda_devices()
    if ordinal >= len(devices):
        raise DeviceError(
            errno.ENODEV,
            f"there is no GPU cuda:{ordinal}; this process sees {len(devices)}, from cuda:0 on",
        )
    device: dict[str, Any] = devices[ordinal]
    if not device["vmm"]:
        raise DeviceError(
            errno.ENOTSUP,
            f"cuda:{ordinal} ({device['name']}) has no virtual memory management, which swapmem "
            "needs",
        )
    try:
        import cupy  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"device cuda:{ordinal} needs CuPy: pip install 'swapmem[cuda13]' ({error})"
        ) from error
    return str(device["name"])


def make_engine(device: Device, wish: Wish) -> _core.Engine:
    """Makes the engine that a manager asks for.

    Raises:
        ValueError: for a size that makes no sense, or an argument that means nothing there.
        OutOfMemory: for more device memory than there is, or less than the smallest block.
        StoreError: for more host memory than there is, or a directory that takes no file.
        DeviceError: if the device refuses.
    """
    if device.ordinal is None:
        return _host_engine(device, wish)
    return _cuda_engine(device, device.ordinal, wish)


def default_ram_budget_bytes() -> int:
    """The budget of a manager on the host if nobody says one: most of the machine's RAM.

    Returns:
        Bytes.

    Example:
        >>> default_ram_budget_bytes() > 0
        True
    """
    return int(_RAM_SHARE * _ram_bytes())


def default_pinned_bytes() -> int:
    """How much RAM takes what a GPU swaps out if nobody says it: half of what is available now.

    Returns:
        Bytes.

    Example:
        >>> default_pinned_bytes() > 0
        True
    """
    return int(_PINNED_SHARE * _core.available_memory_bytes())


def _host_engine(device: Device, wish: Wish) -> _core.Engine:
    if wish.host_memory is not None:
        parse_bytes(wish.host_memory)
        if not device.why:
            raise ValueError(
                "host_memory is where a GPU's arrays are swapped out to; on device 'host' the "
                "budget is device_memory"
            )
    if wish.device_memory is None:
        budget_bytes = default_ram_budget_bytes()
    else:
        budget_bytes = parse_bytes(wish.device_memory)
    directory = tempfile.gettempdir() if wish.spill_dir is None else os.fspath(wish.spill_dir)
    arguments = (
        budget_bytes,
        directory,
        _spill_bytes(wish, directory),
        wish.spill_bytes is not None,
        wish.checksum,
        wish.paranoid,
        _WORKERS,
        _CHUNK_BYTES,
    )
    try:
        return _core.host_engine(*arguments)
    except DeviceError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Too many are alive, some perhaps only because of arrays that wait to be collected.
        gc.collect()
        return _core.host_engine(*arguments)


def _cuda_engine(device: Device, ordinal: int, wish: Wish) -> _core.Engine:
    directory = None if wish.spill_dir is None else os.fspath(wish.spill_dir)
    if directory is None and wish.spill_bytes is not None:
        raise ValueError("spill_bytes is the size of a file: say in which spill_dir")
    if directory is None and wish.checksum:
        raise ValueError("checksum verifies what comes back from a file: say in which spill_dir")
    return _core.cuda_engine(
        ordinal,
        _device_bytes(device, ordinal, wish.device_memory),
        _host_bytes(wish.host_memory),
        directory,
        0 if directory is None else _spill_bytes(wish, directory),
        wish.spill_bytes is not None,
        wish.checksum,
        wish.paranoid,
        PART_BYTES,
    )


def _device_bytes(device: Device, ordinal: int, wished: Size) -> int:
    wished_bytes = None if wished is None else parse_bytes(wished)
    free_bytes, total_bytes = _core.cuda_memory(ordinal)
    if wished_bytes is None:
        return int(_DEVICE_SHARE * free_bytes)
    if wished_bytes > total_bytes:
        raise OutOfMemory(
            f"device_memory is {format_bytes(wished_bytes)}, {device.name} has "
            f"{format_bytes(total_bytes)}, of which {format_bytes(free_bytes)} are free",
            requested_bytes=wished_bytes,
            used_bytes=total_bytes - free_bytes,
            budget_bytes=total_bytes,
            needed_bytes=wished_bytes,
            op="",
        )
    return wished_bytes


def _host_bytes(wished: Size) -> int:
    wished_bytes = None if wished is None else parse_bytes(wished)
    if wished_bytes is None:
        return default_pinned_bytes()
    available_bytes = _core.available_memory_bytes()
    if wished_bytes > available_bytes:
        # It is locked in memory from the start: to take more would end other programs, or this one.
        raise StoreError(
            errno.ENOMEM,
            f"host_memory is {format_bytes(wished_bytes)}; of {format_bytes(_ram_bytes())} of "
            f"RAM {format_bytes(available_bytes)} are available to be locked",
        )
    return wished_bytes


def _ram_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _spill_bytes(wish: Wish, directory: str) -> int:
    if wish.spill_bytes is not None:
        return parse_bytes(wish.spill_bytes)
    try:
        fs = os.statvfs(directory)
    except OSError:
        return 0  # the store says what is wrong with the directory
    return int(fs.f_bavail * fs.f_frsize * _FREE_SPACE_SHARE)
