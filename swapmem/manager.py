"""The manager: what programs see of swapmem."""

import contextlib
import os
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from swapmem import _core, adapters
from swapmem.errors import Error, InvalidBlock
from swapmem.records import BlockInfo, Fault, TraceEvent
from swapmem.report import format_report
from swapmem.sizes import parse_bytes

# A deep queue from one large array or from many small ones; bench/bench_transfers.py measures it.
_WORKERS = 4
_CHUNK_BYTES = 2 << 20
# What a store may use of the free space if nobody said how much.
_FREE_SPACE_SHARE = 0.9
_RAM_SHARE = 0.8

_active_lock = threading.Lock()
_active: "Manager | None" = None


class Manager:
    """Keeps the arrays made inside its `with` block within a memory budget.

    Arrays of 64 KiB and more are blocks: when the budget is full, those used longest ago are
    swapped out to a file and come back when they are needed, at the same address. Smaller arrays
    are ordinary memory and are not counted.

    Arrays may outlive the `with` block. One manager can be active in a process at a time; threads
    that are started inside take part by `with memory.thread():`. At most 16 can be alive, and one
    is as long as an array made in it is.

    Args:
        device: "host" (RAM) or "auto", which is "host" in this version.
        device_memory: the budget, in bytes or as a string such as "2GiB". A hard limit. By default
            80 % of the machine's RAM.
        spill_dir: directory of the file that takes what is swapped out; should be on a local disk
            and not on tmpfs. By default the system's directory for temporary files.
        spill_bytes: how large that file may become; then taken from the file system at once. By
            default it grows as needed, up to 90 % of what is free there now.
        checksum: verify every array that is swapped in against a checksum.
        paranoid: swap everything out after every operation that no operation holds, to find
            touches that were not announced (`faults`). Slow: for tests.

    Raises:
        ValueError: for a size or device that makes no sense.
        StoreError: if the file cannot be made in spill_dir.
        OutOfMemory: if the budget is smaller than the smallest block.

    Example:
        >>> with Manager(device="host", device_memory="64MiB") as memory:
        ...     a = np.ones(1 << 20)
        ...     memory.swap_out(a).wait()
        ...     state = memory.block(a).state
        >>> state
        'out'
    """

    def __init__(
        self,
        device: str = "auto",
        device_memory: int | str | None = None,
        spill_dir: str | os.PathLike[str] | None = None,
        spill_bytes: int | str | None = None,
        checksum: bool = False,
        paranoid: bool = False,
    ) -> None:
        if device not in ("auto", "host"):
            raise ValueError(f"device {device!r} is not available; it can be 'auto' or 'host'")
        directory = os.fspath(spill_dir) if spill_dir is not None else tempfile.gettempdir()
        if device_memory is None:
            ram_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            budget_bytes = int(_RAM_SHARE * ram_bytes)
        else:
            budget_bytes = parse_bytes(device_memory)
        store_bytes = _free_bytes(directory) if spill_bytes is None else parse_bytes(spill_bytes)
        self.engine = _core.host_engine(
            budget_bytes,
            directory,
            store_bytes,
            spill_bytes is not None,
            checksum,
            paranoid,
            _WORKERS,
            _CHUNK_BYTES,
        )
        self.paranoid = paranoid
        self.spill_dir = directory
        self._handler = self.engine.numpy_handler()
        self._stack: contextlib.ExitStack | None = None

    def __enter__(self) -> "Manager":
        global _active
        with _active_lock:
            if _active is self:
                raise Error("this manager is active; in another thread use memory.thread()")
            if _active is not None:
                raise Error("another manager is active; leave its with block first")
            _active = self
        try:
            for notice in self.engine.notices():
                warnings.warn(notice, RuntimeWarning, stacklevel=2)
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.thread())
                self._stack = stack.pop_all()
        except BaseException:
            with _active_lock:
                _active = None
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        global _active
        stack, self._stack = self._stack, None
        try:
            if stack is not None:
                stack.close()
        finally:
            with _active_lock:
                _active = None
        self.engine.drain()
        self.engine.trim()
        if isinstance(error, MemoryError) and not isinstance(error, Error):
            self._raise_failure(error)

    def _raise_failure(self, error: MemoryError) -> None:
        """Raises what NumPy replaced by a MemoryError without numbers, if it did."""
        try:
            self.engine.raise_failure()
        except Error as failure:
            raise failure from error

    @contextlib.contextmanager
    def thread(self) -> Iterator["Manager"]:
        """Lets the calling thread take part: arrays it makes are blocks, adapters see its work.

        NumPy's memory handler and Chainer's hooks belong to a thread (a context); threads start
        without them.

        Example:
            >>> def work(memory):
            ...     with memory.thread():
            ...         return np.zeros(1 << 20)
        """
        with contextlib.ExitStack() as stack:
            before = _core.set_numpy_handler(self._handler)
            stack.callback(_core.set_numpy_handler, before)
            for context in adapters.contexts(self):
                stack.enter_context(context)
            yield self

    def swap_out(self, array: np.ndarray[Any, Any]) -> _core.Ticket:
        """Starts to swap out the whole block of an array or view.

        Returns:
            A ticket: `wait()` returns once the array is out and raises if it could not be,
            `done()` tells.

        Raises:
            InvalidBlock: if the array is in no block (it is small, or was made elsewhere), or if
                an open operation or a pin holds it.
        """
        return self.engine.swap_out(_address(array))

    def swap_in(self, array: np.ndarray[Any, Any]) -> _core.Ticket:
        """Starts to swap in the whole block of an array or view, ahead of its use.

        Raises:
            InvalidBlock: if the array is in no block.
            OutOfMemory: if what is held leaves no room for it.
        """
        return self.engine.swap_in(_address(array))

    def pin(self, array: np.ndarray[Any, Any]) -> None:
        """Swaps an array in and keeps it in memory, writable, until `unpin`; pins are counted.

        System calls may read and write pinned arrays (`array.tofile`, `socket.send`,
        `file.readinto`); for an array that is swapped out they fail with EFAULT.

        Raises:
            InvalidBlock: if the array is in no block.
            OutOfMemory: if the pins together would not fit the budget.
        """
        self.engine.pin(_address(array))

    def unpin(self, array: np.ndarray[Any, Any]) -> None:
        """Takes one pin back.

        Raises:
            InvalidBlock: if the array is in no block or has no pin.
        """
        self.engine.unpin(_address(array))

    @contextlib.contextmanager
    def pinned(self, *arrays: np.ndarray[Any, Any]) -> Iterator[None]:
        """Pins arrays for the length of a `with` block; arrays that are no blocks are let be.

        Example:
            >>> with memory.pinned(a):  # doctest: +SKIP
            ...     a.tofile("a.bin")
        """
        with contextlib.ExitStack() as stack:
            for array in arrays:
                if self.engine.block(_address(array)) is not None:
                    self.pin(array)
                    stack.callback(self.unpin, array)
            yield

    def block(self, array: np.ndarray[Any, Any]) -> BlockInfo | None:
        """The block an array or view lives in, or None if it is ordinary memory."""
        info = self.engine.block(_address(array))
        return None if info is None else BlockInfo(*info)

    def stats(self) -> dict[str, Any]:
        """Totals since the manager was made; sizes in bytes, times in seconds.

        The keys: docs/statistics.md.
        """
        return self.engine.stats()

    def trace(self) -> list[TraceEvent]:
        """The last 65,536 events, oldest first."""
        return [TraceEvent(*event) for event in self.engine.trace()]

    def faults(self) -> list[Fault]:
        """The touches of swapped-out arrays that nobody announced (the first 65,536)."""
        return [Fault(*fault) for fault in self.engine.faults()]

    def report(self) -> str:
        """A text of some twenty lines: peaks, bytes and rates each way, waits, the costly ops."""
        return format_report(self.stats(), self.engine.notices())

    def drain(self) -> None:
        """Waits until no copy is under way."""
        self.engine.drain()

    def trim(self) -> int:
        """Gives memory that is kept for future arrays back to the system; returns its bytes."""
        return self.engine.trim()


def _free_bytes(directory: str) -> int:
    try:
        fs = os.statvfs(directory)
    except OSError:
        return 0  # the store says what is wrong with the directory
    return int(fs.f_bavail * fs.f_frsize * _FREE_SPACE_SHARE)


def _address(array: np.ndarray[Any, Any]) -> int:
    """An address inside the block of an array: that of its first element."""
    if not isinstance(array, np.ndarray):
        raise InvalidBlock(f"not a NumPy array: {type(array).__name__}")
    return array.ctypes.data
