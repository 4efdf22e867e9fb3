"""The processes that train one model: how many, which one this is, and what they do together."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import chainer

Result = TypeVar("Result")


class Processes:
    """One process alone; :class:`train.distributed.MPIProcesses` are several.

    What is called "together" is called by all processes, in the same order, or all wait for ever.

    Attributes:
        rank: Which of all processes this is, from 0. The first one writes the files.
        size: How many there are.
        node_rank: Which of those on this machine this is, from 0.
        node_size: How many are on this machine.
        pinned: Keeps arrays in memory while MPI reads and writes them: a manager's `pinned`.
        failed_together: Whether all know of the failure that one of them is about to tell.
        interrupted: Whether this one was told to end (Ctrl-C).
    """

    rank = 0
    size = 1
    node_rank = 0
    node_size = 1

    def __init__(self) -> None:
        self.pinned: Callable[..., AbstractContextManager[Any]] = lambda *arrays: nullcontext()
        self.failed_together = False
        self.interrupted = False

    @property
    def is_first(self) -> bool:
        """Whether this one prints and writes for all."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Returns every process's value, by rank; together."""
        return [value]

    def average(self, array: Any) -> None:
        """Replaces an array of float32 by its mean over the processes; together."""

    def average_gradients(self, model: chainer.Chain) -> None:
        """Replaces every gradient by its mean over the processes; together."""

    def average_persistent(self, model: chainer.Chain) -> None:
        """Replaces what a model holds beside its weights by its mean; together.

        These are the running statistics of batch normalization: each process has seen other
        images. Whole numbers, which count batches, are the same everywhere.
        """
        for _, link in sorted(model.namedlinks()):
            for name in sorted(link._persistent):
                value = getattr(link, name)
                if getattr(getattr(value, "dtype", None), "kind", "") == "f":
                    self.average(value)

    def agree(self, work: Callable[[], Result]) -> Result:
        """Calls `work` in every process; where it fails in one, it fails in all; together.

        Args:
            work: Does nothing together with other processes.

        Raises:
            InputError: The first one that `work` raised in any process, in rank order.
            Failure: Another failure of the machine's, likewise.
        """
        return work()

    @contextmanager
    def deferring_interrupts(self) -> Iterator[None]:
        """Has an interrupt within the block wait for :meth:`stop_if_interrupted`, or for its end.

        Raised wherever the program is it would be lost in a finalizer: Python prints it there, and
        goes on. Who interrupts again is obeyed at once. A handler that is not Python's own stays.

        Raises:
            KeyboardInterrupt: At the end of the block, for one that nobody has taken up.

        Example:
            >>> with processes.deferring_interrupts():
            ...     trainer.run()
        """
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not ours or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.interrupted = False
        signal.signal(signal.SIGINT, self._note_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.stop_if_interrupted()

    def _note_interrupt(self, *_: Any) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        if self.is_first:
            # Not by print, in the middle of which this may be.
            os.write(2, b"interrupted: ends after this iteration, at once if interrupted again\n")

    def stop_if_interrupted(self) -> None:
        """Raises KeyboardInterrupt in all processes if one was interrupted; together."""
        if self.interrupted:
            raise KeyboardInterrupt

    def end(self, status: int) -> None:
        """Ends the other processes too, after a failure that they do not know of."""


class Failure(Exception):
    """A failure in some process, of which all know."""


#: A process that trains alone.
ALONE = Processes()
