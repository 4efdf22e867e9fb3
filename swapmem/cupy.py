"""CuPy's arrays as blocks: the allocator that a manager on a CUDA device installs.

Imported by managers on CUDA devices; needs CuPy 13 or 14. Nothing of CuPy is patched: its
allocator is replaced for the length of the manager's `with` block, for all threads, and its memory
objects own what keeps a block alive.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

import cupy

from swapmem import _core, adapters, errors

# The stream handle that means another stream in each thread (CUDA driver API).
_PER_THREAD_STREAM = 2


class OutOfMemory(errors.OutOfMemory, cupy.cuda.memory.OutOfMemoryError):
    """What the allocator raises: for programs that expect CuPy's error it is that as well."""

    def __init__(self, error: errors.OutOfMemory) -> None:
        MemoryError.__init__(self, str(error))
        self.__dict__.update(vars(error))
        self._size = error.requested_bytes
        self._total = error.used_bytes
        self._limit = error.budget_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rebuild, errors.OutOfMemory.__reduce__(self)[1]

    @classmethod
    def _rebuild(cls, *arguments: Any) -> OutOfMemory:
        return cls(errors.OutOfMemory(*arguments))


def array_address(array: Any) -> int:
    """The address of the memory behind a CuPy array or view; 0 if there is none.

    Args:
        array: A cupy.ndarray.

    Returns:
        Where the allocation begins that the array lives in, however little of it the array shows;
        0 for arrays that share a chunk with others, which are no blocks.
    """
    memory = array.data.mem
    return int(memory.ptr) if memory.size >= _core.min_cuda_block_bytes else 0


adapters.register_arrays(cupy.ndarray, array_address)


class Allocator:
    """Gives CuPy's arrays on one device the memory of one engine.

    Arrays of 512 KiB and more are blocks; smaller ones share pinned chunks of 2 MiB. Memory is used
    and freed on the stream that was current when it was asked for, as with CuPy's own pool.

    Arrays on other devices, and all arrays once the allocator was removed, get their memory from
    the allocator that was there before.

    Args:
        engine: An engine over the device.
        ordinal: The number of the device.

    Example:
        >>> allocator = Allocator(engine, 0)  # doctest: +SKIP
        >>> allocator.install()  # doctest: +SKIP
    """

    def __init__(self, engine: _core.Engine, ordinal: int) -> None:
        self._pool = _core.ArrayPool(engine)
        self._ordinal = ordinal
        self._previous: Any = None
        self._is_installed = False
        # One object, to be known again: each look-up of a method makes another.
        self._function = self.allocate

    def install(self) -> None:
        """Makes this CuPy's allocator in all threads.

        Raises:
            Error: inside `cupy.cuda.using_allocator`, where CuPy's allocator cannot be changed.
        """
        previous = cupy.cuda.get_allocator()
        try:
            cupy.cuda.set_allocator(self._function)
        except ValueError as error:
            raise errors.Error(
                "CuPy's allocator cannot be replaced inside cupy.cuda.using_allocator; "
                "enter the manager first"
            ) from error
        self._previous = previous
        self._is_installed = True

    def remove(self) -> None:
        """Puts the allocator back that was there before.

        One that was set on top of this one meanwhile stays; this one then passes on what reaches
        it to the one before.
        """
        self._is_installed = False
        if cupy.cuda.get_allocator() is self._function:
            cupy.cuda.set_allocator(self._previous)

    def allocate(self, size: int) -> Any:
        """Allocates memory on the current device (called by CuPy).

        Args:
            size: In bytes; 0 is allowed.

        Returns:
            A cupy.cuda.MemoryPointer. The memory is free when the last array in it is gone.

        Raises:
            OutOfMemory: if the budget has no room; also a cupy.cuda.memory.OutOfMemoryError.
            DeviceError: if the device refuses.
        """
        if not self._is_installed or cupy.cuda.runtime.getDevice() != self._ordinal:
            return self._previous(size)
        if size == 0:
            return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(0, 0, None, self._ordinal), 0)
        try:
            lease = self._lease(size)
        except errors.OutOfMemory:
            # Arrays in reference cycles may be what is in the way. No lock is held here.
            gc.collect()
            try:
                lease = self._lease(size)
            except errors.OutOfMemory as error:
                raise OutOfMemory(error) from None
        memory = cupy.cuda.UnownedMemory(lease.address, size, lease, self._ordinal)
        return cupy.cuda.MemoryPointer(memory, 0)

    def _lease(self, size: int) -> _core.Lease:
        # Asked for each time: another stream may have become current since.
        stream = cupy.cuda.get_current_stream()
        handle: int = stream.ptr
        identity = -threading.get_ident() if handle == _PER_THREAD_STREAM else handle
        return self._pool.allocate(size, handle, identity, stream)

    def current_stream(self) -> int:
        """The handle of the calling thread's current stream on this device."""
        return int(cupy.cuda.get_current_stream(self._ordinal).ptr)

    def trim(self) -> int:
        """Gives chunks that hold no array back to the engine; returns their bytes."""
        return self._pool.trim()

    def statistics(self) -> dict[str, int]:
        """Bytes of all chunks, and of the small arrays in them."""
        return {"chunk_bytes": self._pool.chunk_bytes, "small_bytes": self._pool.small_bytes}
