"""What a machine has, as far as a benchmark must know before it starts."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import NamedTuple

import psutil

import swapmem
from swapmem import _core

_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


class Device(NamedTuple):
    """A GPU.

    Attributes:
        ordinal: its number, as in "cuda:0".
        name: as the driver calls it.
        memory_bytes: all of its memory.
        granularity_bytes: the smallest piece that can be mapped.
        vmm: whether it has virtual memory management, without which swapmem cannot use it.
    """

    ordinal: int
    name: str
    memory_bytes: int
    granularity_bytes: int
    vmm: bool


def cuda_devices() -> tuple[list[Device], str]:
    """Returns the GPUs, or none and why there are none."""
    find = getattr(_core, "cuda_devices", None)
    if find is None:
        return [], "this build of swapmem knows no CUDA"
    try:
        devices = [Device(*(found[field] for field in Device._fields)) for found in find()]
    except swapmem.DeviceError as error:
        # An OSError whose number is not errno's: only its words say something.
        return [], str(error.args[-1] if error.args else error)
    return devices, "" if devices else "the CUDA driver finds no device"


def file_system(directory: str) -> str:
    """The type of the file system a directory is on, such as "ext4"; "" if it cannot be told."""
    path = os.path.realpath(directory)
    best, kind = "", ""
    # Later mounts lie over earlier ones.
    for mount in psutil.disk_partitions(all=True):
        point = mount.mountpoint
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, mount.fstype
    return kind


def in_memory(kind: str) -> bool:
    """Whether files of this type of file system lie in RAM."""
    return kind in _IN_MEMORY


@dataclass(frozen=True)
class Site:
    """Where a benchmark runs.

    Attributes:
        spill_dir: where files of the benchmark go.
        file_system: its type.
        available_bytes: RAM that can be taken.
        disk_free_bytes: space that can be taken in spill_dir.
        devices: the GPUs.
        no_device: why there are none, "" if there are.
        cupy: whether CuPy is installed.
    """

    spill_dir: str
    file_system: str
    available_bytes: int
    disk_free_bytes: int
    devices: tuple[Device, ...]
    no_device: str
    cupy: bool

    @classmethod
    def here(cls, spill_dir: str) -> Site:
        """Looks at this machine.

        Raises:
            OSError: spill_dir cannot be looked at.
        """
        devices, reason = cuda_devices()
        disk = os.statvfs(spill_dir)
        return cls(
            spill_dir=spill_dir,
            file_system=file_system(spill_dir),
            available_bytes=_core.available_memory_bytes(),
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            devices=tuple(devices),
            no_device=reason,
            cupy=importlib.util.find_spec("cupy") is not None,
        )
