"""The part of CuPy that hands out memory, as its documentation describes it, without a GPU.

Arrays here have memory, views and owners as CuPy's have, and no contents to compute with. Which
device and stream are current is set by the tests.
"""

import contextlib
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any


class OutOfMemoryError(MemoryError):
    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes")


class BaseMemory:
    ptr: int
    size: int
    device_id: int


class UnownedMemory(BaseMemory):
    def __init__(self, ptr: int, size: int, owner: object, device_id: int = -1) -> None:
        assert device_id >= 0 or ptr != 0
        self.ptr = ptr
        self.size = size
        self.device_id = device_id
        self._owner = owner


class MemoryPointer:
    def __init__(self, mem: BaseMemory, offset: int) -> None:
        assert mem.ptr != 0 or offset == 0
        self.mem = mem
        self.ptr = mem.ptr + offset
        self.device_id = mem.device_id


class Stream:
    def __init__(self, ptr: int, device_id: int = 0) -> None:
        self.ptr = ptr
        self.device_id = device_id


class ndarray:
    """One dimension of bytes."""

    def __init__(self, nbytes: int, memptr: MemoryPointer | None = None, base: Any = None) -> None:
        self.nbytes = nbytes
        self.data = alloc(nbytes) if memptr is None else memptr
        self.base = base

    def __getitem__(self, part: slice) -> "ndarray":
        start, stop, _ = part.indices(self.nbytes)
        offset = self.data.ptr - self.data.mem.ptr + start
        base = self if self.base is None else self.base
        return ndarray(stop - start, MemoryPointer(self.data.mem, offset), base)


class _State(threading.local):
    device = 0
    stream = Stream(0)
    allocator: Callable[[int], MemoryPointer] | None = None


_state = _State()
_raw_bytes = iter(range(0x1000, 1 << 60, 0x1000))


def raw_allocator(size: int) -> MemoryPointer:
    return MemoryPointer(UnownedMemory(next(_raw_bytes), size, None, _state.device), 0)


_allocator: Callable[[int], MemoryPointer] = raw_allocator


def set_allocator(allocator: Callable[[int], MemoryPointer] | None = None) -> None:
    global _allocator
    if _state.allocator is not None:
        raise ValueError("Can't change the global allocator inside `using_allocator`")
    _allocator = raw_allocator if allocator is None else allocator


def get_allocator() -> Callable[[int], MemoryPointer]:
    return _allocator if _state.allocator is None else _state.allocator


def alloc(size: int) -> MemoryPointer:
    return get_allocator()(size)


@contextlib.contextmanager
def using_allocator(allocator: Callable[[int], MemoryPointer]) -> Iterator[None]:
    before, _state.allocator = _state.allocator, allocator
    try:
        yield
    finally:
        _state.allocator = before


def get_current_stream(device_id: int = -1) -> Stream:
    return _state.stream


@contextlib.contextmanager
def current(device: int = 0, stream: Stream | None = None) -> Iterator[None]:
    """Makes a device and a stream current in this thread."""
    before = _state.device, _state.stream
    _state.device, _state.stream = device, stream or Stream(0, device)
    try:
        yield
    finally:
        _state.device, _state.stream = before


def make_module() -> types.ModuleType:
    """A module to stand for `cupy`."""
    cupy: Any = types.ModuleType("cupy")
    cupy.ndarray = ndarray
    cupy.cuda = types.SimpleNamespace(
        BaseMemory=BaseMemory,
        UnownedMemory=UnownedMemory,
        MemoryPointer=MemoryPointer,
        Stream=Stream,
        alloc=alloc,
        set_allocator=set_allocator,
        get_allocator=get_allocator,
        using_allocator=using_allocator,
        get_current_stream=get_current_stream,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=types.SimpleNamespace(getDevice=lambda: _state.device),
    )
    return cupy
