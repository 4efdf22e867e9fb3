"""The manager: what programs see of swapmem."""

import atexit
import contextlib
import os
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from swapmem import _core, adapters, devices
from swapmem.errors import Error, InvalidBlock
from swapmem.records import BlockInfo, Fault, TraceEvent
from swapmem.report import format_report
from swapmem.sizes import format_bytes

if TYPE_CHECKING:
    from swapmem.cupy import Allocator

PLANS = ("auto", "swap", "recompute", "none")

adapters.register_arrays(np.ndarray, lambda array: array.ctypes.data)

_active_lock = threading.Lock()
# By the name of the device.
_active: "dict[str, Manager]" = {}


def _no_stream() -> int:
    return 0


@atexit.register
def _end_copies() -> None:
    """Lets copies end before the interpreter does; arrays and managers may outlive it."""
    for manager in list(_active.values()):
        with contextlib.suppress(Error):
            manager.drain()


class Manager:
    """Keeps the arrays made inside its `with` block within a memory budget.

    Large arrays are blocks: when the budget is full, those used longest ago are swapped out and
    come back when they are needed, at the same address. On the host they are NumPy's arrays of
    64 KiB and more, and smaller ones are ordinary memory that is not counted. On a GPU they are
    CuPy's arrays of 512 KiB and more; smaller ones share memory that counts and is never swapped
    out.

    A GPU cannot wait for memory that is swapped out. There only such blocks are swapped out for
    others as an adapter has proven to be announced before they are used, and those you name with
    `swap_out`: see `swap_in`.

    Arrays may outlive the `with` block. One manager can be active for each device at a time. On
    the host, threads that are started inside take part by `with memory.thread():`, and at most 16
    managers can be alive; one is as long as an array made in it is. On a GPU CuPy's allocator is
    replaced in all threads until the block is left.

    Args:
        device: "host" (RAM), "cuda:N" (a GPU), or "auto": the first GPU if CuPy can use one, else
            the host; the report says which and why.
        device_memory: the budget, in bytes or as a string such as "2GiB". A hard limit. By default
            80 % of the machine's RAM, or 90 % of the GPU's memory that is free now.
        spill_dir: directory of the file that takes what is swapped out; should be on a local disk
            and not on tmpfs. By default the system's directory for temporary files; on a GPU
            there is then no file.
        spill_bytes: how large that file may become; then taken from the file system at once. By
            default it grows as needed, up to 90 % of what is free there now.
        checksum: verify every array that comes back from the file against a checksum.
        paranoid: swap everything out after every operation that no operation holds, to find
            touches that were not announced (`faults`). Slow: for tests.
        host_memory: for a GPU, how much RAM takes what is swapped out before the file does. It is
            locked in memory from the start. By default half of the RAM that is available now.
        plan: what an adapter that finds iterations does from the second on: "swap" plans every
            swap, "recompute" has the parts that a model names computed again instead of stored,
            "auto" chooses what is faster, "none" leaves all to the least recently used order.

    Attributes:
        engine: the engine, for adapters.
        paranoid: as it was asked for.
        plan: as it was asked for; "none" in paranoid mode.
        current_stream: returns the handle of the stream that is current for the calling thread, for
            adapters; 0 on the host.

    Raises:
        ValueError: for a size or device that makes no sense.
        StoreError: if the file cannot be made in spill_dir, or host_memory is more than there is.
        OutOfMemory: if the budget is smaller than the smallest block, or larger than the GPU's
            memory.
        DeviceError: if the GPU is not there or cannot be used.
        ImportError: if it is there and CuPy is not.

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
        host_memory: int | str | None = None,
        plan: str = "auto",
    ) -> None:
        if plan not in PLANS:
            raise ValueError(f"plan {plan!r}: must be one of {', '.join(PLANS)}")
        self._device = devices.choose(device)
        self.engine = devices.make_engine(
            self._device,
            devices.Wish(device_memory, host_memory, spill_dir, spill_bytes, checksum, paranoid),
        )
        self.paranoid = paranoid
        # Paranoid mode has swaps of its own.
        self.plan = "none" if paranoid else plan
        self._stack: contextlib.ExitStack | None = None
        self.current_stream: Callable[[], int] = _no_stream
        self._more_reports: list[Callable[[], list[str]]] = []
        self._run_parts: list[Callable[[], dict[str, Any]]] = []
        self._allocator: Allocator | None = None
        self._handler: object = None
        if self._device.ordinal is None:
            self._handler = self.engine.numpy_handler()
        else:
            from swapmem import cupy  # needs CuPy, which is installed

            self._allocator = cupy.Allocator(self.engine, self._device.ordinal)
            self.current_stream = self._allocator.current_stream

    @property
    def device(self) -> str:
        """The device: "host" or "cuda:N".

        Example:
            >>> import swapmem
            >>> swapmem.Manager(device="host", device_memory="64MiB").device
            'host'
        """
        return self._device.name

    def __enter__(self) -> "Manager":
        with _active_lock:
            active = _active.get(self.device)
            if active is self:
                raise Error("this manager is active; in another thread use memory.thread()")
            if active is not None:
                raise Error(
                    f"another manager is active on {self.device}; leave its with block first"
                )
            _active[self.device] = self
        try:
            for notice in self.engine.notices():
                warnings.warn(notice, RuntimeWarning, stacklevel=2)
            with contextlib.ExitStack() as stack:
                if self._allocator is not None:
                    self._allocator.install()
                    stack.callback(self._allocator.remove)
                stack.enter_context(self.thread())
                self._stack = stack.pop_all()
        except BaseException:
            self._deactivate()
            raise
        return self

    def _deactivate(self) -> None:
        with _active_lock:
            if _active.get(self.device) is self:
                del _active[self.device]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        stack, self._stack = self._stack, None
        try:
            if stack is not None:
                stack.close()
        finally:
            self._deactivate()
        self.drain()
        self.trim()
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
            if self._handler is not None:
                before = _core.set_numpy_handler(self._handler)
                stack.callback(_core.set_numpy_handler, before)
            for context in adapters.contexts(self):
                stack.enter_context(context)
            yield self

    def swap_out(self, array: Any) -> _core.Ticket:
        """Starts to swap out the whole block of an array or view.

        On a GPU it may not be used in any way until `swap_in` has brought it back or an operation
        that was announced has; `check` tells. The copy comes after the work that the calling
        thread's current stream was given: that has to be the stream which used the array last.

        Args:
            array: a NumPy or CuPy array.

        Returns:
            A ticket: `wait()` returns once the array is out and raises if it could not be,
            `done()` tells.

        Raises:
            InvalidBlock: if the array is in no block (it is small, or was made elsewhere), or if
                an open operation or a pin holds it.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     memory.swap_out(a).wait()
            ...     resident_bytes = memory.stats()["resident_bytes"]
            >>> resident_bytes
            0
        """
        return self.engine.swap_out(adapters.address_of(array), self.current_stream())

    def swap_in(self, array: Any) -> _core.Ticket:
        """Starts to swap in the whole block of an array or view, ahead of its use.

        On a GPU wait for it before the array is used, and let the manager swap out nothing you use:
        what you have not given to `swap_out` yourself stays, unless only a framework's own graph
        holds it.

        Args:
            array: a NumPy or CuPy array.

        Returns:
            A ticket, as `swap_out` does.

        Raises:
            InvalidBlock: if the array is in no block.
            OutOfMemory: if what is held leaves no room for it.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     memory.swap_out(a).wait()
            ...     memory.swap_in(a).wait()
            ...     faults, total = len(memory.faults()), a.sum()
            >>> faults, int(total)
            (0, 1048576)
        """
        return self.engine.swap_in(adapters.address_of(array), self.current_stream())

    def pin(self, array: Any) -> None:
        """Swaps an array in and keeps it in memory, writable, until `unpin`; pins are counted.

        System calls may read and write pinned arrays (`array.tofile`, `socket.send`,
        `file.readinto`); for an array that is swapped out they fail with EFAULT.

        Raises:
            InvalidBlock: if the array is in no block.
            OutOfMemory: if the pins together would not fit the budget.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     memory.pin(a)
            ...     pinned = memory.block(a).pinned
            ...     memory.unpin(a)
            >>> pinned
            True
        """
        self.engine.pin(adapters.address_of(array), self.current_stream())

    def unpin(self, array: Any) -> None:
        """Takes one pin back.

        Raises:
            InvalidBlock: if the array is in no block or has no pin.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     memory.pin(a)
            ...     memory.unpin(a)
            ...     pinned = memory.block(a).pinned
            >>> pinned
            False
        """
        self.engine.unpin(adapters.address_of(array), self.current_stream())

    @contextlib.contextmanager
    def pinned(self, *arrays: Any) -> Iterator[None]:
        """Pins arrays for the length of a `with` block; arrays that are no blocks are let be.

        Example:
            >>> with memory.pinned(a):  # doctest: +SKIP
            ...     a.tofile("a.bin")
        """
        with contextlib.ExitStack() as stack:
            for array in arrays:
                if self.block(array) is not None:
                    self.pin(array)
                    stack.callback(self.unpin, array)
            yield

    def block(self, array: Any) -> BlockInfo | None:
        """The block an array or view lives in, or None if it is ordinary memory.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a, small = np.ones(1 << 20), np.ones(8)
            ...     found = memory.block(a[5:]).bytes, memory.block(small)
            >>> found
            (8388608, None)
        """
        info = self.engine.block(adapters.address_of(array))
        return None if info is None else BlockInfo(*info)

    def check(self, *arrays: Any) -> None:
        """Raises if one of the arrays is swapped out, before it is given to a GPU's kernel.

        A kernel that touches memory which is not there ends all work on the GPU. On the host it
        would wait for the swap-in, and there is nothing to check.

        Raises:
            InvalidBlock: for the first array that is not in memory; says its size and state.

        Example:
            >>> memory.check(a)  # doctest: +SKIP
            Traceback (most recent call last):
            swapmem.errors.InvalidBlock: an array of 1.0 MiB is swapped out (state out) ...
        """
        for array in arrays:
            block = self.block(array)
            if block is not None and block.state in ("evicting", "out", "filling"):
                raise InvalidBlock(
                    f"an array of {format_bytes(block.bytes)} is swapped out (state "
                    f"{block.state}); memory.swap_in(array).wait() brings it back"
                )

    def stats(self) -> dict[str, Any]:
        """Totals since the manager was made; sizes in bytes, times in seconds.

        The keys: docs/statistics.md.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     live_bytes = memory.stats()["live_bytes"]
            >>> live_bytes
            8388608
        """
        stats = {"device": self.device, **self.engine.stats()}
        if self._allocator is not None:
            stats.update(self._allocator.statistics())
        return stats

    def trace(self) -> list[TraceEvent]:
        """The last 65,536 events, oldest first.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     memory.swap_out(a).wait()
            >>> [event.bytes for event in memory.trace() if event.kind == "swap_out"]
            [8388608]
        """
        return [TraceEvent(*event) for event in self.engine.trace()]

    def faults(self) -> list[Fault]:
        """The touches of swapped-out arrays that nobody announced (the first 65,536).

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     memory.swap_out(a).wait()
            ...     total = a.sum()
            >>> [fault.bytes for fault in memory.faults()]
            [8388608]
        """
        return [Fault(*fault) for fault in self.engine.faults()]

    def report(self) -> str:
        """A text of some twenty lines: peaks, bytes and rates each way, waits, the costly ops.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            >>> print(memory.report())  # doctest: +ELLIPSIS
            swapmem report
              device   host
              memory   peak 8.0 MiB of a budget of 64.0 MiB; arrays at their peak 8.0 MiB
            ...
        """
        why = f" ({self._device.why})" if self._device.why else ""
        more = [line for report in self._more_reports for line in report()]
        return format_report(self.stats(), self.engine.notices(), self.device + why, more)

    def add_report(self, lines: Callable[[], list[str]]) -> None:
        """Has an adapter say more in every report: for adapters.

        Args:
            lines: called for each report; returns lines of text.
        """
        self._more_reports.append(lines)

    def add_run_parts(self, parts: Callable[[], dict[str, Any]]) -> None:
        """Has an adapter add its trace and its plan to run files: for adapters.

        Args:
            parts: called for each run file; returns arguments of `explain.run_file.save_run`.
        """
        self._run_parts.append(parts)

    def save_run(self, path: str | os.PathLike[str], **about: str) -> None:
        """Writes what happened to a file that `swapmem explain` reads.

        Args:
            path: where; compressed if it ends in ".gz".
            about: what its reader should know, such as ``model="ResNet50"``.

        Raises:
            OSError: the file cannot be written; a file that was there before is as it was.

        Example:
            >>> memory.save_run("run.json.gz", model="ResNet50")  # doctest: +SKIP
        """
        from swapmem.explain.run_file import save_run  # takes its time to import

        save_run(
            path,
            events=self.trace(),
            stats=self.stats(),
            about=about,
            notices=self.engine.notices(),
            **self.planned(),
        )

    def planned(self) -> dict[str, Any]:
        """What the present iterations follow.

        Returns:
            Empty while nothing is planned; else ``trace`` (`planner.trace.Trace`), ``plan``
            (`planner.plan.Plan`), ``simulation`` (`planner.simulation.Simulation`, what is foretold
            of it) and ``block_ids`` (the engine's, for each block of the trace).

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     planned = memory.planned()
            >>> planned
            {}
        """
        parts: dict[str, Any] = {}
        for more in self._run_parts:
            parts.update(more())
        return parts

    def drain(self) -> None:
        """Waits until no copy is under way.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     ticket = memory.swap_out(a)
            ...     memory.drain()
            >>> ticket.done()
            True
        """
        self.engine.drain()

    def trim(self) -> int:
        """Gives memory that is kept for future arrays back to the system; returns its bytes.

        Example:
            >>> with Manager(device="host", device_memory="64MiB") as memory:
            ...     a = np.ones(1 << 20)
            ...     del a
            ...     trimmed_bytes = memory.trim()
            >>> trimmed_bytes
            8388608
        """
        if self._allocator is not None:
            self._allocator.trim()
        return self.engine.trim()
