"""Batches of examples, loaded ahead by threads.

Chainer's own iterators are not used, for three reasons. ``MultiprocessIterator`` starts children:
under forkserver and spawn they import Chainer without the shims and die, again and again, while
the parent waits for ever; forked, they would share arrays with a parent whose memory is swapped
out under them. All of them draw the order from NumPy's global random state, as of when they
happen to load ahead, so that a resumed run goes another way. And their snapshots do not fit each
other, so that the number of loader jobs could not be changed on resuming.

Threads suffice: Pillow decodes and NumPy computes without the global interpreter lock.
What they load is ordinary memory even with ``--ooc``, one batch ahead.
"""

from abc import abstractmethod
from array import array
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import chainer
import numpy as np

from train.dataset import Examples
from train.errors import InputError


class Batches(chainer.dataset.Iterator):
    """Batches that depend on nothing but how many examples came before.

    The state is one number, the examples seen; `jobs` changes the speed alone.

    Args:
        examples: The data set, not empty.
        batch_size: Examples a batch.
        jobs: How many threads load the next batch meanwhile; 0 and 1 load in the caller's thread.
    """

    def __init__(self, examples: Examples, batch_size: int, jobs: int = 0):
        self._examples = examples
        self._batch_size = batch_size
        self._jobs = jobs
        self._pool: ThreadPoolExecutor | None = None
        self.reset()

    def reset(self) -> None:
        """Goes back to the first example."""
        self._seen = 0
        self._seen_before: int | None = None
        self._ahead: list[Future[Any]] = []

    @abstractmethod
    def _upcoming(self) -> list[tuple[int, int]]:
        """Returns (index, epoch) of each example of the next batch; none at the end."""

    def __next__(self) -> list[Any]:
        upcoming = self._upcoming()
        if not upcoming:
            raise StopIteration
        if self._jobs > 1:
            futures = self._ahead or self._submit(upcoming)
            self._ahead = []
            batch = [future.result() for future in futures]
        else:
            batch = [self._examples.example(*which) for which in upcoming]
        self._seen_before = self._seen
        self._seen += len(batch)
        if self._jobs > 1:
            self._ahead = self._submit(self._upcoming())
        return batch

    def _submit(self, upcoming: list[tuple[int, int]]) -> list[Future[Any]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="loader")
        return [self._pool.submit(self._examples.example, *which) for which in upcoming]

    @property
    def epoch(self) -> int:
        """How many times all examples have been seen."""
        return self._seen // len(self._examples)

    @property
    def epoch_detail(self) -> float:
        """The same with its fraction."""
        return self._seen / len(self._examples)

    @property
    def previous_epoch_detail(self) -> float | None:
        """`epoch_detail` before the last batch; None before the first."""
        return None if self._seen_before is None else self._seen_before / len(self._examples)

    @property
    def is_new_epoch(self) -> bool:
        """Whether the last batch finished a sweep over all examples."""
        before = self._seen_before
        return before is not None and before // len(self._examples) != self.epoch

    def serialize(self, serializer: Any) -> None:
        """Saves or loads how many examples have been seen.

        Raises:
            InputError: What is loaded was saved over a list of another length.
        """
        saved = serializer("examples", len(self._examples))
        if saved != len(self._examples):
            raise InputError(
                f"the snapshot was taken over {saved} examples, now there are "
                f"{len(self._examples)}: resume with the same list"
            )
        self._seen = serializer("seen", self._seen)
        before = serializer("seen_before", -1 if self._seen_before is None else self._seen_before)
        self._seen_before = None if before < 0 else before
        self._ahead = []

    def finalize(self) -> None:
        """Ends the threads; what they are reading now is finished, nothing more is begun."""
        self._ahead = []
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class EndlessBatches(Batches):
    """Sweep after sweep, each in an order of its own, drawn from (`seed`, epoch): for training.

    A batch may end one sweep and begin the next, so that all have the same size.
    """

    def __init__(self, examples: Examples, batch_size: int, seed: int, jobs: int = 0):
        self._seed = seed
        self._orders: dict[int, array] = {}
        super().__init__(examples, batch_size, jobs)

    def _upcoming(self) -> list[tuple[int, int]]:
        length = len(self._examples)
        self._orders = {e: o for e, o in self._orders.items() if e >= self._seen // length}
        places = (divmod(self._seen + i, length) for i in range(self._batch_size))
        return [(self._order(epoch)[position], epoch) for epoch, position in places]

    def _order(self, epoch: int) -> array:
        if epoch not in self._orders:
            key = np.random.SeedSequence(self._seed, spawn_key=(epoch,))
            order = np.random.default_rng(key).permutation(len(self._examples))
            # Not kept as a NumPy array: read a little in every iteration, it would otherwise be
            # swapped out and in again all the time.
            self._orders[epoch] = array("q", order.astype(np.int64).tobytes())
        return self._orders[epoch]


class SweepBatches(Batches):
    """Every example once, in order, the last batch being what is left: for validation."""

    def _upcoming(self) -> list[tuple[int, int]]:
        stop = min(self._seen + self._batch_size, len(self._examples))
        return [(index, 0) for index in range(self._seen, stop)]
