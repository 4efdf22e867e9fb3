"""Worker processes and ranks: the same examples in the same order, whoever loads them."""

import itertools
import os

import numpy as np
import pytest
from chainer import serializers

from train.batches import EndlessBatches, ShardedBatches, SweepBatches
from train.dataset import RandomCrops, open_images
from train.dataset_workers import Processes, Threads
from train.errors import InputError


@pytest.fixture
def crops(write_list):
    return RandomCrops(open_images(write_list("some", 9)), np.zeros((3, 12, 12), np.float32), 8, 4)


def same(left, right):
    for one, other in zip(left, right, strict=True):
        for (pixels, label), (others, other_label) in zip(one, other, strict=True):
            np.testing.assert_array_equal(pixels, others)
            assert (label, label.dtype) == (other_label, other_label.dtype)


def test_processes_load_what_the_main_thread_would_as_far_ahead_as_asked(crops, in_tmp):
    alone = list(itertools.islice(EndlessBatches(crops, 4, seed=1), 6))
    with EndlessBatches(crops, 4, 1, jobs=2, loader=Processes, ahead=2) as batches:
        # Read together and kept: what was handed out is not written over later.
        same(list(itertools.islice(batches, 6)), alone)
        # The error comes whole from the process that met it.
        for i in range(9):
            (in_tmp / f"some {i}.png").unlink()
        with pytest.raises(InputError, match=r"some.txt:\d: cannot read the image"):
            list(itertools.islice(batches, 9))


def test_large_batches_cost_few_file_descriptors(crops):
    loader = Processes(crops, 1)
    before = len(os.listdir("/proc/self/fd"))
    coming = [loader.submit(i % 9, i) for i in range(200)]
    assert len(os.listdir("/proc/self/fd")) - before < 30
    for i, example in enumerate(coming):
        np.testing.assert_array_equal(example.result()[0], crops.example(i % 9, i)[0])
    loader.close()


def test_examples_that_nobody_takes_give_their_memory_back(crops, in_tmp):
    loader = Processes(crops, 1)
    for _ in range(3):
        coming = [loader.submit(i, 0) for i in range(9)]
        coming.pop().result()
        for example in coming:
            example.cancel()
        # Those that a process had begun are done when what was submitted after them is.
        loader.submit(0, 0).result()
    (in_tmp / "some 5.png").unlink()
    with pytest.raises(InputError, match="cannot read the image"):
        loader.submit(5, 0).result()
    loader.close()
    assert len(loader._free) == 32


def test_a_process_that_dies_is_said_and_nobody_waits_for_it(crops, monkeypatch):
    loader = Processes(crops, 1)
    loader.submit(0, 0).result()
    for process in loader._pool._processes.values():
        process.kill()
    with pytest.raises(ChildProcessError, match="a loader process ended"):  # noqa: PT012
        for _ in range(1000):
            loader.submit(0, 0).result()
    loader.close()


class Numbers:
    """Example 3 in epoch 2 is (3, 2)."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def example(self, index, epoch):
        return index, epoch


def take(kind, length, count, **options):
    with kind(Numbers(length), **options) as batches:
        return list(itertools.islice(batches, count)), batches


@pytest.mark.parametrize("jobs", [0, 3])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_ranks_batches_together_are_one_large_batch(ranks, jobs):
    whole, _ = take(EndlessBatches, 10, 8, batch_size=2 * ranks, seed=5)
    dealt = [
        take(EndlessBatches, 10, 8, batch_size=2, seed=5, jobs=jobs, rank=r, ranks=ranks)[0]
        for r in range(ranks)
    ]
    for number, batch in enumerate(whole):
        assert [
            e for group in zip(*(d[number] for d in dealt), strict=True) for e in group
        ] == batch


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("jobs", [0, 2])
def test_the_ranks_sweep_over_every_example_once(jobs, ahead):
    sweeps = [
        take(SweepBatches, 11, 99, batch_size=2, jobs=jobs, ahead=ahead, rank=r, ranks=3)[0]
        for r in range(3)
    ]
    for rank, sweep in enumerate(sweeps):
        assert [i for i, _ in itertools.chain(*sweep)] == list(range(rank, 11, 3))
        assert max(map(len, sweep)) == 2


def test_epochs_and_the_state_count_what_all_ranks_saw():
    kinds = [take(EndlessBatches, 8, 3, batch_size=2, seed=0, rank=r, ranks=2)[1] for r in (0, 1)]
    for batches in kinds:
        assert (batches.epoch, batches.epoch_detail, batches.is_new_epoch) == (1, 1.5, False)
    states = [serializers.npz.serialize(batches) for batches in kinds]
    assert {k: v.item() for k, v in states[0].items()} == {
        k: v.item() for k, v in states[1].items()
    }
    resumed = EndlessBatches(Numbers(8), 4, seed=0)
    serializers.NpzDeserializer(states[1]).load(resumed)
    assert next(resumed) == take(EndlessBatches, 8, 4, batch_size=4, seed=0)[0][3]


def test_a_rank_with_a_share_of_its_own_never_reads_anothers():
    for rank in range(3):
        batches, after = take(ShardedBatches, 10, 8, batch_size=2, seed=7, rank=rank, ranks=3)
        seen = list(itertools.chain(*batches))
        share = [i % 10 for i in range(rank, 12, 3)]
        assert sorted(i for i, epoch in seen if epoch == 0) == sorted(share)
        assert sorted(i for i, epoch in seen if epoch == 1) == sorted(share)
        assert [i for i, e in seen if e == 0] != [i for i, e in seen if e == 1]
        assert after.epoch == 4


def test_threads_are_the_default(crops):
    with EndlessBatches(crops, 2, 0, jobs=2) as batches:
        next(batches)
        assert isinstance(batches._loader, Threads)
