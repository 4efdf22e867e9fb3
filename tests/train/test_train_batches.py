"""Batches: which examples, in which order, by how many threads, from where on."""

import itertools
import threading

import pytest
from chainer import serializers

from train.batches import EndlessBatches, SweepBatches
from train.errors import InputError


class Numbers:
    """Example 3 in epoch 2 is (3, 2)."""

    def __init__(self, length, failing=()):
        self.length = length
        self.failing = failing
        self.threads = set()

    def __len__(self):
        return self.length

    def example(self, index, epoch):
        self.threads.add(threading.current_thread())
        if (index, epoch) in self.failing:
            raise InputError(f"example {index} is broken")
        return index, epoch


def take(batches, count):
    return list(itertools.islice(batches, count))


def saved(batches):
    return serializers.npz.serialize(batches)


def load(batches, state):
    serializers.NpzDeserializer(state).load(batches)


@pytest.mark.parametrize("jobs", [0, 1, 2, 5])
def test_every_epoch_holds_every_example_once_in_an_order_of_its_own(jobs):
    with EndlessBatches(Numbers(7), 3, seed=0, jobs=jobs) as batches:
        stream = list(itertools.chain(*take(batches, 14)))
    epochs = [stream[i : i + 7] for i in range(0, 42, 7)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == [(i, number) for i in range(7)]
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 6


def test_neither_threads_nor_other_draws_change_the_order_but_the_seed_does():
    orders = []
    for seed, jobs in ((0, 0), (0, 4), (1, 0)):
        with EndlessBatches(Numbers(50), 8, seed, jobs) as batches:
            orders.append(take(batches, 20))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_a_batch_larger_than_the_data_set_goes_round():
    batches = EndlessBatches(Numbers(2), 5, seed=0)
    assert [epoch for _, epoch in next(batches)] == [0, 0, 1, 1, 2]
    assert [epoch for _, epoch in next(batches)] == [2, 3, 3, 4, 4]
    assert batches.epoch == 5


@pytest.mark.parametrize(("jobs", "jobs_after"), [(0, 0), (2, 2), (2, 0), (0, 3)])
@pytest.mark.parametrize("done", range(9))
def test_batches_go_on_from_a_snapshot_as_if_nothing_had_been(done, jobs, jobs_after):
    with EndlessBatches(Numbers(7), 3, seed=5, jobs=jobs) as batches:
        take(batches, done)
        state = saved(batches)
        expected = take(batches, 9)
    with EndlessBatches(Numbers(7), 3, seed=5, jobs=jobs_after) as resumed:
        next(resumed)
        load(resumed, state)
        assert saved(resumed) == state
        assert take(resumed, 9) == expected


def test_the_epoch_ends_with_the_batch_that_reaches_its_last_example():
    batches = EndlessBatches(Numbers(4), 3, seed=0)
    assert (batches.epoch, batches.is_new_epoch, batches.previous_epoch_detail) == (0, False, None)
    seen = []
    for _ in range(4):
        next(batches)
        seen.append(
            (batches.epoch, batches.is_new_epoch, batches.epoch_detail,
             batches.previous_epoch_detail)
        )  # fmt: skip
    assert seen == [
        (0, False, 0.75, 0.0), (1, True, 1.5, 0.75), (2, True, 2.25, 1.5), (3, True, 3.0, 2.25)
    ]  # fmt: skip


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_sweep_holds_every_example_once_in_order_and_starts_again_when_reset(jobs):
    with SweepBatches(Numbers(5), 2, jobs) as batches:
        for _ in range(2):
            assert list(batches) == [[(0, 0), (1, 0)], [(2, 0), (3, 0)], [(4, 0)]]
            batches.reset()
        next(batches)
        batches.reset()
        assert next(batches) == [(0, 0), (1, 0)]


def test_a_snapshot_over_a_list_of_another_length_is_refused():
    state = saved(EndlessBatches(Numbers(7), 3, seed=0))
    with pytest.raises(InputError, match="over 7 examples, now there are 8"):
        load(EndlessBatches(Numbers(8), 3, seed=0), state)


@pytest.mark.parametrize("jobs", [0, 2])
def test_the_error_of_an_example_reaches_whoever_wants_its_batch(jobs):
    with SweepBatches(Numbers(6, failing={(3, 0)}), 2, jobs) as batches:
        assert next(batches) == [(0, 0), (1, 0)]
        with pytest.raises(InputError, match="example 3 is broken"):
            next(batches)


class Calls:
    """A loader that notes what is submitted and what is waited for, in order."""

    def __init__(self, examples, _):
        self.examples = examples
        self.calls = examples.calls

    def submit(self, index, epoch):
        self.calls.append(("submit", index))
        return Coming(self, index)

    def close(self):
        pass


class Coming:
    def __init__(self, loader, index):
        self.loader = loader
        self.index = index

    def result(self):
        self.loader.calls.append(("result", self.index))
        return self.loader.examples.example(self.index, 0)

    def cancel(self):
        self.loader.calls.append(("cancel", self.index))


@pytest.mark.parametrize("ahead", [1, 2])
def test_an_example_further_ahead_is_begun_for_each_that_is_taken(ahead):
    numbers = Numbers(20)
    numbers.calls = []
    with SweepBatches(numbers, 3, jobs=2, loader=Calls, ahead=ahead) as batches:
        take(batches, 3)
        expected = [("submit", i) for i in range(3)] + [("result", 0)]
        expected += [("submit", i) for i in range(3, 3 * ahead + 1)]
        for i in range(1, 9):
            expected += [("result", i), ("submit", 3 * ahead + i)]
        assert numbers.calls == expected


def test_what_was_loaded_ahead_is_cancelled_where_loading_begins_anew():
    numbers = Numbers(20)
    numbers.calls = []
    with SweepBatches(numbers, 3, jobs=2, loader=Calls) as batches:
        next(batches)
        numbers.calls.clear()
        batches.reset()
        assert numbers.calls == [("cancel", i) for i in range(3, 6)]


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("jobs", [0, 2])
def test_a_batch_that_failed_comes_whole_when_it_is_asked_for_again(jobs, ahead):
    numbers = Numbers(6, failing={(3, 0)})
    with SweepBatches(numbers, 2, jobs, ahead=ahead) as batches:
        next(batches)
        for _ in range(2):
            with pytest.raises(InputError, match="example 3 is broken"):
                next(batches)
        numbers.failing = ()
        assert list(batches) == [[(2, 0), (3, 0)], [(4, 0), (5, 0)]]


def test_0_and_1_jobs_load_in_the_callers_thread_and_more_in_others_that_end():
    for jobs in (0, 1):
        numbers = Numbers(9)
        take(EndlessBatches(numbers, 3, seed=0, jobs=jobs), 4)
        assert numbers.threads == {threading.current_thread()}
    numbers = Numbers(9)
    batches = EndlessBatches(numbers, 3, seed=0, jobs=2)
    take(batches, 4)
    batches.finalize()
    batches.finalize()
    assert 1 <= len(numbers.threads) <= 2
    assert not any(thread.is_alive() for thread in numbers.threads)
