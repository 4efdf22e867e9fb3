"""Who loads examples: threads, or processes."""

import mmap
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from train.dataset import Crops, Examples

#: What a worker process loads from, and the memory it has seen so far; its own, by name.
_examples: Crops
_slabs: dict[str, mmap.mmap] = {}

#: Images a slab has room for. A slab costs a file descriptor, of which there are about a thousand.
_SLOTS = 32


class Coming(Protocol):
    """An example that is being loaded."""

    def result(self) -> Any:
        """Waits for the example and returns it, or raises what loading it raised."""

    def cancel(self) -> Any:
        """Nobody will ask for the example; instead of `result`."""


class Threads:
    """Threads of this process: Pillow decodes and NumPy computes without the interpreter lock.

    Args:
        examples: What they load from.
        jobs: How many there are.
    """

    def __init__(self, examples: Examples, jobs: int):
        self._examples = examples
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="loader")

    def submit(self, index: int, epoch: int) -> Coming:
        """Has an example loaded."""
        future: Future[Any] = self._pool.submit(self._examples.example, index, epoch)
        return future

    def close(self) -> None:
        """Ends the threads; what they are reading now is finished, nothing more is begun."""
        self._pool.shutdown(cancel_futures=True)


class Processes:
    """Processes of their own, which hand pixels over in shared memory.

    They come from a fork server and so share nothing with this process: neither arrays whose
    memory is swapped out nor what MPI or CUDA set up. Each opens the images for itself.

    Args:
        examples: What they load from; it is sent to each of them.
        jobs: How many there are.
    """

    def __init__(self, examples: Crops, jobs: int):
        self._shape = examples.shape
        self._free: list[_Slot] = []
        self._pool = ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("forkserver"),
            initializer=_begin,
            initargs=(examples,),
        )

    def submit(self, index: int, epoch: int) -> Coming:
        """Has an example loaded."""
        if not self._free:
            size = int(np.prod(self._shape)) * 4
            slab = _Slab(_SLOTS * size)
            self._free += [_Slot(slab, i * size) for i in range(_SLOTS)]
        slot = self._free.pop()
        try:
            future = self._pool.submit(_load, slot.slab.name, slot.offset, index, epoch)
        except BrokenProcessPool as error:
            raise ChildProcessError(_DIED) from error
        return _Shared(future, slot, self._free.append, self._shape)

    def close(self) -> None:
        """Ends the processes; what they are reading now is finished, nothing more is begun."""
        self._pool.shutdown(cancel_futures=True)


_DIED = "a loader process ended by itself, probably for want of memory; fewer --loaderjob take less"


def start_server() -> None:
    """Starts the process that worker processes come from.

    To be called before MPI or CUDA are set up, which a fork must not inherit; it takes a moment,
    and calling it again does nothing.
    """
    multiprocessing.set_forkserver_preload(["train.dataset_workers"])
    forkserver.ensure_running()


class _Slab:
    """Memory for some images, that other processes can map by its name."""

    def __init__(self, size: int):
        # Not under /dev/shm: containers limit that to a few images.
        self._descriptor = os.memfd_create("swapmem-loader")
        weakref.finalize(self, os.close, self._descriptor)
        os.ftruncate(self._descriptor, size)
        self.name = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self.memory = mmap.mmap(self._descriptor, size)


class _Slot(NamedTuple):
    """A slab's memory for one image, from a byte on."""

    slab: _Slab
    offset: int


class _Shared:
    """An example that a process is writing into a slot."""

    def __init__(
        self,
        future: Future[Any],
        slot: _Slot,
        give_back: Callable[[_Slot], None],
        shape: tuple[int, int, int],
    ):
        self._future = future
        self._slot = slot
        self._give_back = give_back
        self._shape = shape

    def result(self) -> Any:
        """Waits for the example and copies it out of the slot, which can be used again."""
        try:
            label = self._future.result()
            pixels = _pixels(self._slot.slab.memory, self._slot.offset, self._shape).copy()
        except BrokenProcessPool as error:
            raise ChildProcessError(_DIED) from error
        finally:
            self.cancel()
        return pixels, label

    def cancel(self) -> None:
        """Gives the slot back, as soon as nobody writes into it any more."""
        self._future.cancel()
        self._future.add_done_callback(lambda _: self._give_back(self._slot))


def _pixels(memory: mmap.mmap, offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.frombuffer(memory, np.float32, int(np.prod(shape)), offset).reshape(shape)


def _begin(examples: Crops) -> None:
    global _examples
    _examples = examples
    # An interrupt from the terminal reaches every process: the training decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _load(name: str, offset: int, index: int, epoch: int) -> np.int32:
    pixels, label = _examples.example(index, epoch)
    if name not in _slabs:
        with open(name, "r+b") as file:
            _slabs[name] = mmap.mmap(file.fileno(), 0)
    _pixels(_slabs[name], offset, pixels.shape)[...] = pixels
    return label
