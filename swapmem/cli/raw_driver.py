"""The CUDA driver by itself: pinned and pageable copies and mappings, with nothing of swapmem.

What swapmem is compared with must not go through swapmem; and the few functions it takes are not
worth a dependency that would have to match the installed driver.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Direction = Literal["out", "in"]

_NON_BLOCKING = 1
_PORTABLE = 1
_PINNED_ON_DEVICE = 1
_READ_WRITE = 3


class DriverError(Exception):
    """The driver is missing or refused a call."""


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", _Location),
        ("win32", ctypes.c_void_p),
        ("flags", ctypes.c_uint8 * 8),
    )


class _Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


class Mapping(NamedTuple):
    """Device memory behind an address range of its own.

    Attributes:
        address: of the first byte.
        size_bytes: of the range; a multiple of the device's granularity.
        handle: of the physical memory.
    """

    address: int
    size_bytes: int
    handle: int


class Copy(NamedTuple):
    """One copy between the device and the host.

    Attributes:
        direction: "out" of the device or "in".
        host: host memory.
        address: device memory, as long as host.
    """

    direction: Direction
    host: NDArray[np.uint64]
    address: int


class Gpu:
    """One GPU through the plain driver, current in the thread that enters the ``with`` block.

    The context is the device's primary one, which CuPy, PyTorch and swapmem use as well.

    Args:
        ordinal: which.

    Raises:
        DriverError: there is no driver, no such device, or the driver refuses a call.
    """

    def __init__(self, ordinal: int) -> None:
        name = os.environ.get("SWAPMEM_CUDA_DRIVER") or "libcuda.so.1"
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise DriverError(f"no CUDA driver: {error}") from error
        self._call("cuInit", ctypes.c_uint(0))
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        self._ordinal = ordinal
        self._device = device
        self._streams: dict[Direction, ctypes.c_void_p] = {}

    def __enter__(self) -> Gpu:
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        try:
            self._call("cuCtxPushCurrent_v2", context)
            try:
                for direction in ("out", "in"):
                    stream = ctypes.c_void_p()
                    flags = ctypes.c_uint(_NON_BLOCKING)
                    self._call("cuStreamCreate", ctypes.byref(stream), flags)
                    self._streams[direction] = stream
            except DriverError:
                self._leave()
                raise
        except DriverError:
            self._call("cuDevicePrimaryCtxRelease_v2", self._device)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _leave(self) -> None:
        for stream in self._streams.values():
            self._call("cuStreamDestroy_v2", stream)
        self._streams.clear()
        self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    @property
    def version(self) -> str:
        """The version of CUDA that the driver knows, such as "13.0"."""
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def free_bytes(self) -> int:
        """Device memory that nobody has."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def map(self, size_bytes: int) -> Mapping:
        """Reserves addresses and puts memory of its own behind them, accessible to the device."""
        address = ctypes.c_uint64()
        size = ctypes.c_size_t(size_bytes)
        zero = ctypes.c_uint64(0)
        self._call(
            "cuMemAddressReserve", ctypes.byref(address), size, ctypes.c_size_t(0), zero, zero
        )
        properties = _Properties(type=_PINNED_ON_DEVICE, location=self._location())
        handle = ctypes.c_uint64()
        try:
            self._call("cuMemCreate", ctypes.byref(handle), size, ctypes.byref(properties), zero)
            mapping = Mapping(address.value, size_bytes, handle.value)
            try:
                self.map_again(mapping)
            except DriverError:
                self._call("cuMemRelease", handle)
                raise
        except DriverError:
            self._call("cuMemAddressFree", address, size)
            raise
        return mapping

    def map_again(self, mapping: Mapping) -> None:
        """Puts the memory behind the addresses, after `unmap`."""
        address, size = ctypes.c_uint64(mapping.address), ctypes.c_size_t(mapping.size_bytes)
        handle, zero = ctypes.c_uint64(mapping.handle), ctypes.c_uint64(0)
        self._call("cuMemMap", address, size, ctypes.c_size_t(0), handle, zero)
        access = _Access(self._location(), _READ_WRITE)
        try:
            self._call("cuMemSetAccess", address, size, ctypes.byref(access), ctypes.c_size_t(1))
        except DriverError:
            self.unmap(mapping)
            raise

    def unmap(self, mapping: Mapping) -> None:
        """Takes the memory away from behind the addresses; both stay."""
        address, size = ctypes.c_uint64(mapping.address), ctypes.c_size_t(mapping.size_bytes)
        self._call("cuMemUnmap", address, size)

    def free(self, mapping: Mapping) -> None:
        """Gives memory and addresses back; `unmap` comes first."""
        self._call("cuMemRelease", ctypes.c_uint64(mapping.handle))
        address, size = ctypes.c_uint64(mapping.address), ctypes.c_size_t(mapping.size_bytes)
        self._call("cuMemAddressFree", address, size)

    def pin(self, host: NDArray[np.uint64]) -> None:
        """Registers host memory with the driver, which makes copies asynchronous and fast."""
        address, size = ctypes.c_void_p(host.ctypes.data), ctypes.c_size_t(host.nbytes)
        self._call("cuMemHostRegister_v2", address, size, ctypes.c_uint(_PORTABLE))

    def unpin(self, host: NDArray[np.uint64]) -> None:
        """Takes `pin` back."""
        self._call("cuMemHostUnregister", ctypes.c_void_p(host.ctypes.data))

    def host_alloc(self, size_bytes: int) -> int:
        """Has the driver allocate pinned host memory; returns its address."""
        address = ctypes.c_void_p()
        size, flags = ctypes.c_size_t(size_bytes), ctypes.c_uint(_PORTABLE)
        self._call("cuMemHostAlloc", ctypes.byref(address), size, flags)
        assert address.value is not None
        return address.value

    def host_free(self, address: int) -> None:
        """Frees what `host_alloc` returned."""
        self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def stream(self, direction: Direction) -> int:
        """Returns the handle of the stream that `copy_pinned` uses for a direction."""
        return self._streams[direction].value or 0

    def copy_pinned(self, copies: Sequence[Copy], piece_bytes: int) -> float:
        """Copies between the device and pinned memory, each direction on a stream of its own.

        Args:
            copies: all under way at the same time.
            piece_bytes: of one call of the driver.

        Returns:
            Seconds until the last byte is there.
        """
        begin = time.perf_counter()
        longest = max(copy.host.nbytes for copy in copies)
        for start in range(0, longest, piece_bytes):
            for copy in copies:
                size = min(piece_bytes, copy.host.nbytes - start)
                if size > 0:
                    self._copy(copy, start, size, self._streams[copy.direction])
        for stream in self._streams.values():
            self._call("cuStreamSynchronize", stream)
        return time.perf_counter() - begin

    def copy_pageable(self, copy: Copy, piece_bytes: int) -> float:
        """Copies between the device and ordinary memory; returns seconds."""
        begin = time.perf_counter()
        for start in range(0, copy.host.nbytes, piece_bytes):
            self._copy(copy, start, min(piece_bytes, copy.host.nbytes - start), None)
        self._call("cuCtxSynchronize")
        return time.perf_counter() - begin

    def _copy(self, copy: Copy, start: int, size: int, stream: ctypes.c_void_p | None) -> None:
        host = ctypes.c_void_p(copy.host.ctypes.data + start)
        device = ctypes.c_uint64(copy.address + start)
        ends: tuple[Any, Any] = (host, device) if copy.direction == "out" else (device, host)
        name = "cuMemcpyDtoH" if copy.direction == "out" else "cuMemcpyHtoD"
        if stream is None:
            self._call(f"{name}_v2", *ends, ctypes.c_size_t(size))
        else:
            self._call(f"{name}Async_v2", *ends, ctypes.c_size_t(size), stream)

    def _location(self) -> _Location:
        return _Location(_PINNED_ON_DEVICE, self._ordinal)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise DriverError(f"the CUDA driver has no {name}") from None
        code = function(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text))
            raise DriverError(f"{name}: {(text.value or b'unknown error').decode()} ({code})")
