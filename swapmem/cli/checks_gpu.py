"""The CUDA driver, its devices, and the link to each of them, measured."""

from __future__ import annotations

import time
from collections.abc import Iterator

from swapmem import _core
from swapmem.cli.direct_file import pages
from swapmem.cli.finding import Finding
from swapmem.cli.raw_driver import Copy, DriverError, Gpu
from swapmem.cli.site import Device, cuda_devices
from swapmem.sizes import format_bytes

_SECTION = "GPU"
_LINK_BYTES = 64 << 20
_LINK_SECONDS = 0.3


def check() -> Iterator[Finding]:
    """Looks for a driver, for devices, and at what they can do."""
    devices, reason = cuda_devices()
    if not devices:
        yield Finding(_SECTION, "driver", "note", reason, "arrays live in RAM (device='host')")
        return
    for device in devices:
        yield from _device(device)


def _device(device: Device) -> Iterator[Finding]:
    name = f"cuda:{device.ordinal}"
    yield Finding(_SECTION, name, "ok", f"{device.name}, {format_bytes(device.memory_bytes)}")
    if not device.vmm:
        yield Finding(
            _SECTION,
            f"{name} mapping",
            "note",
            "no virtual memory management: swapmem cannot use this device",
            "a newer driver, or a system that is no virtual machine without it",
        )
        return
    yield Finding(
        _SECTION,
        f"{name} mapping",
        "ok",
        f"in pieces of {format_bytes(device.granularity_bytes)}",
    )
    try:
        with Gpu(device.ordinal) as gpu:
            yield Finding(_SECTION, f"{name} driver", "ok", f"CUDA {gpu.version}")
            yield _memory(name, device, gpu.free_bytes())
            yield _link(name, gpu)
    except DriverError as error:
        yield Finding(_SECTION, f"{name} link", "note", f"not measured: {error}")


def _memory(name: str, device: Device, free_bytes: int) -> Finding:
    text = f"{format_bytes(free_bytes)} free"
    if free_bytes < device.memory_bytes // 2:
        return Finding(
            _SECTION,
            f"{name} memory",
            "note",
            f"{text}: other programs have the rest",
            "give a device_memory below what is free",
        )
    return Finding(_SECTION, f"{name} memory", "ok", text)


def _link(name: str, gpu: Gpu) -> Finding:
    """Measures copies from and to pinned memory."""
    if _core.available_memory_bytes() < 2 * _LINK_BYTES:
        return Finding(_SECTION, f"{name} link", "note", "not measured: too little host memory")
    host = pages(_LINK_BYTES)
    host.fill(1)
    gpu.pin(host)
    try:
        mapping = gpu.map(_LINK_BYTES)
        try:
            rates = []
            for copy in (Copy("in", host, mapping.address), Copy("out", host, mapping.address)):
                gpu.copy_pinned([copy], _LINK_BYTES)
                seconds: list[float] = []
                end = time.perf_counter() + _LINK_SECONDS
                while time.perf_counter() < end or len(seconds) < 3:
                    seconds.append(gpu.copy_pinned([copy], _LINK_BYTES))
                rates.append(_LINK_BYTES / min(seconds) / 1e9)
        finally:
            gpu.unmap(mapping)
            gpu.free(mapping)
    finally:
        gpu.unpin(host)
    text = f"{rates[0]:.1f} GB/s to the device, {rates[1]:.1f} GB/s back (pinned memory)"
    return Finding(_SECTION, f"{name} link", "ok", text)
