"""Batches of examples, loaded ahead by threads or processes.

Chainer's own iterators are not used, for three reasons. ``MultiprocessIterator`` starts children:
under forkserver and spawn they import Chainer without the shims and die, again and again, while
the parent waits for ever; forked, they would share arrays with a parent whose memory is swapped
out under them. All of them draw the order from NumPy's global random state, as of when they
happen to load ahead, so that a resumed run goes another way. And their snapshots do not fit each
other, so that the number of loader jobs could not be changed on resuming.

Threads mostly suffice: Pillow decodes and NumPy computes without the global interpreter lock.
What is loaded ahead is ordinary memory even with ``--ooc``, one batch unless more is asked for.
"""

import itertools
from abc import abstractmethod
from array import array
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import chainer
import numpy as np
from numpy.typing import NDArray

from train.dataset import Examples
from train.dataset_workers import Coming, Threads
from train.errors import InputError


class Loader(Protocol):
    """Loads examples out of the caller's way; see :mod:`train.dataset_workers`."""

    def submit(self, index: int, epoch: int) -> Coming: ...

    def close(self) -> None: ...


class MakeLoader(Protocol):
    """Makes a loader: :class:`~train.dataset_workers.Threads` or ``Processes``."""

    def __call__(self, examples: Any, jobs: int, /) -> Loader: ...


class Batches(chainer.dataset.Iterator):
    """Batches that depend on nothing but how many examples came before.

    The state is one number, the examples seen; who loads them changes the speed alone.

    Args:
        examples: The data set, not empty.
        batch_size: Examples a batch.
        jobs: How many workers load the next batch meanwhile; 0 and 1 load in the caller's thread.
        loader: What they are: :class:`~train.dataset_workers.Threads` or ``Processes``.
        ahead: How many batches are loaded ahead of the one that was asked for.
        rank: Which of several processes this is. Each batch is dealt out among them, example by
            example; what is counted here are the examples of all, so that epochs and snapshots
            are the same for every rank.
        ranks: How many processes there are, with `batch_size` examples each.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        jobs: int = 0,
        *,
        loader: MakeLoader = Threads,
        ahead: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ):
        self._examples = examples
        self._batch_size = batch_size
        self._rank = rank
        self._ranks = ranks
        self._jobs = jobs
        self._make_loader = loader
        self._depth = ahead
        self._loader: Loader | None = None
        self._ahead: deque[Coming] = deque()
        self.reset()

    def reset(self) -> None:
        """Goes back to the first example."""
        self._seen = 0
        self._seen_before: int | None = None
        self._begin()

    def _begin(self) -> None:
        """Lets go of what is loaded ahead; loading begins anew after what has been seen."""
        while self._ahead:
            self._ahead.popleft().cancel()
        self._to_load = self._from_here_on()

    def _from_here_on(self) -> Iterator[tuple[int, int]]:
        seen = self._seen
        while upcoming := self._upcoming(seen):
            yield from upcoming
            seen = self._after(seen)

    @property
    def _length(self) -> int:
        """How many examples make a sweep."""
        return len(self._examples)

    @property
    def _step(self) -> int:
        """How many examples all ranks see in a batch; the last one of a sweep may be smaller."""
        return self._batch_size * self._ranks

    @abstractmethod
    def _upcoming(self, seen: int) -> list[tuple[int, int]]:
        """Returns (index, epoch) of this rank's examples of the batch after `seen`."""

    def _after(self, seen: int) -> int:
        """Returns how many examples have been seen after the batch that follows `seen`."""
        return seen + self._step

    def __next__(self) -> list[Any]:
        upcoming = self._upcoming(self._seen)
        if not upcoming:
            raise StopIteration
        if self._jobs > 1:
            batch = self._loaded(len(upcoming))
        else:
            batch = [self._examples.example(*which) for which in upcoming]
        self._seen_before = self._seen
        self._seen = self._after(self._seen)
        return batch

    def _loaded(self, count: int) -> list[Any]:
        batch = []
        try:
            self._load_ahead(count)
            for _ in range(count):
                batch.append(self._ahead.popleft().result())
                # One by one, or the workers would be idle while the last of a batch are loaded.
                self._load_ahead(self._depth * self._batch_size)
        except BaseException:
            # What was taken out would be missing when this batch is asked for again.
            self._begin()
            raise
        return batch

    def _load_ahead(self, count: int) -> None:
        if self._loader is None:
            self._loader = self._make_loader(self._examples, self._jobs)
        for which in itertools.islice(self._to_load, max(count - len(self._ahead), 0)):
            self._ahead.append(self._loader.submit(*which))

    @property
    def epoch(self) -> int:
        """How many times all examples have been seen."""
        return self._seen // self._length

    @property
    def epoch_detail(self) -> float:
        """The same with its fraction."""
        return self._seen / self._length

    @property
    def previous_epoch_detail(self) -> float | None:
        """`epoch_detail` before the last batch; None before the first."""
        return None if self._seen_before is None else self._seen_before / self._length

    @property
    def is_new_epoch(self) -> bool:
        """Whether the last batch finished a sweep over all examples."""
        before = self._seen_before
        return before is not None and before // self._length != self.epoch

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
        self._begin()

    def finalize(self) -> None:
        """Ends the workers; what they are reading now is finished, nothing more is begun."""
        self._begin()
        if self._loader is not None:
            self._loader.close()
            self._loader = None


class EndlessBatches(Batches):
    """Sweep after sweep, each in an order of its own, drawn from (`seed`, epoch): for training.

    A batch may end one sweep and begin the next, so that all have the same size.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seed: int,
        jobs: int = 0,
        *,
        loader: MakeLoader = Threads,
        ahead: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ):
        self._seed = seed
        self._orders: dict[int, array[int]] = {}
        super().__init__(
            examples, batch_size, jobs, loader=loader, ahead=ahead, rank=rank, ranks=ranks
        )

    def _upcoming(self, seen: int) -> list[tuple[int, int]]:
        self._orders = {e: o for e, o in self._orders.items() if e >= self._seen // self._length}
        places = (
            divmod(seen + i, self._length) for i in range(self._rank, self._step, self._ranks)
        )
        return [(self._at(epoch, position), epoch) for epoch, position in places]

    def _at(self, epoch: int, position: int) -> int:
        if epoch not in self._orders:
            # Not kept as a NumPy array: read a little in every iteration, it would otherwise be
            # swapped out and in again all the time.
            self._orders[epoch] = array("q", self._shuffled(epoch).astype(np.int64).tobytes())
        return self._orders[epoch][position]

    def _shuffled(self, epoch: int) -> NDArray[np.integer]:
        key = np.random.SeedSequence(self._seed, spawn_key=(epoch,))
        return np.random.default_rng(key).permutation(len(self._examples))


class ShardedBatches(EndlessBatches):
    """The same where each rank keeps to its own share of the examples: index % ranks is its rank.

    For shares that are kept in memory. Each rank draws its order from (`seed`, epoch, rank); a
    sweep is as long as the longest share times the ranks, shorter shares begin again.
    """

    @property
    def _length(self) -> int:
        length = len(self._examples)
        return length + -length % self._ranks

    def _at(self, epoch: int, position: int) -> int:
        return super()._at(epoch, position // self._ranks)

    def _shuffled(self, epoch: int) -> NDArray[np.integer]:
        share = np.arange(self._rank, self._length, self._ranks) % len(self._examples)
        key = np.random.SeedSequence(self._seed, spawn_key=(epoch, self._rank))
        return np.random.default_rng(key).permutation(share)


class SweepBatches(Batches):
    """Every example once, in order, the last batch being what is left: for validation."""

    def _after(self, seen: int) -> int:
        return min(super()._after(seen), self._length)

    def _upcoming(self, seen: int) -> list[tuple[int, int]]:
        return [(i, 0) for i in range(seen + self._rank, self._after(seen), self._ranks)]
