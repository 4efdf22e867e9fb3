"""Training that is planned: from the second iteration on, and the same to the last bit."""

from __future__ import annotations

import random

import chainer
import numpy
import pytest

import swapmem
import swapmem.chainer
from swapmem.chainer import segments

F = chainer.functions
L = chainer.links

COUNTED = ("faults", "plan_misses", "unplanned_evictions")
BUDGET = "7MiB"


class Net(chainer.Chain):
    """Eight convolutions with shortcuts: the halves are segments, each normalized one is one."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.stem = L.Convolution2D(3, 16, 3, pad=1)
            self.body = chainer.ChainList(*(L.Convolution2D(16, 16, 3, pad=1) for _ in range(8)))
            self.norm = L.BatchNormalization(16)
            self.last = L.Linear(16 * 8 * 8, 10)

    def part(self, first, h):
        for number in range(first, first + 4):
            h = h + F.relu(segments.segment(f"conv{number}", self.normalized, number, h))
        return h

    def normalized(self, number, h):
        return self.norm(self.body[number](h))

    def features(self, x):
        h = F.max_pooling_2d(self.stem(x), 2)
        h = segments.segment("first", lambda h: self.part(0, h), h)
        h = segments.segment("second", lambda h: self.part(4, h), h)
        return F.dropout(F.average_pooling_2d(h, 2))

    def forward(self, x, t):
        return F.softmax_cross_entropy(self.last(self.features(x)), t)


class Training:
    """Trains, and tells of each iteration by how much the counts grew."""

    def __init__(self, memory):
        numpy.random.seed(0)
        self.memory = memory
        self.model = Net()
        self.optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(self.model)
        self.random = numpy.random.default_rng(1)
        self.counts = []

    def train(self, iterations, batch=12):
        for _ in range(iterations):
            before = self.memory.stats()
            x = self.random.standard_normal((batch, 3, 32, 32)).astype(numpy.float32)
            t = self.random.integers(0, 10, batch).astype(numpy.int32)
            self.optimizer.update(self.model, x, t)
            after = self.memory.stats()
            self.counts.append({key: after[key] - before[key] for key in COUNTED})

    def evaluate(self):
        x = numpy.ones((8, 3, 32, 32), numpy.float32)
        with chainer.using_config("train", False), chainer.no_backprop_mode():
            return self.model.features(x).array.copy()

    def weights(self):
        return {name: param.array.copy() for name, param in self.model.namedparams()}


def trained(iterations=6, budget=BUDGET, plan="auto", script=None):
    with swapmem.Manager(device="host", device_memory=budget, plan=plan) as memory:
        training = Training(memory)
        if script is None:
            training.train(iterations)
        else:
            script(training)
        weights = training.weights()
        training.memory = None
        return weights, memory, training.counts


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        numpy.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.fixture(scope="module")
def in_core():
    return trained(budget="1GiB")[0]


@pytest.mark.parametrize("plan", ["auto", "swap", "recompute", "none"])
def test_no_plan_changes_a_bit_of_the_weights(plan, in_core):
    weights, memory, _ = trained(plan=plan)
    assert memory.stats()["swap_out_bytes"] > 0
    assert_same(weights, in_core)


def test_swaps_are_planned_from_the_second_iteration_on():
    _, memory, counts = trained(iterations=8, plan="swap")
    assert memory.stats()["planned_iterations"] == 7
    assert counts[3:] == [dict.fromkeys(COUNTED, 0)] * 5
    assert memory.planned()["plan"].swaps
    assert "swaps" in memory.report()


def test_with_room_for_all_nothing_is_planned_and_nothing_moves():
    _, memory, _ = trained(budget="1GiB")
    assert memory.stats()["planned_iterations"] == 0
    assert memory.planned() == {}


def test_segments_are_recomputed_where_that_was_asked_for_and_not_after_the_manager():
    _, memory, _ = trained(iterations=8, plan="recompute")
    names = ", ".join(memory.planned()["plan"].recomputed)
    assert names
    assert f"recomputed in backward: {names}" in memory.report()
    assert segments.chosen() == frozenset()


def test_several_backward_passes_of_one_update_are_one_iteration():
    def script(training):
        for _ in range(12):
            training.model.cleargrads()
            before = training.memory.stats()
            for _ in range(3):
                x = training.random.standard_normal((12, 3, 32, 32)).astype(numpy.float32)
                training.model(x, numpy.zeros(12, numpy.int32)).backward()
            training.optimizer.update()
            after = training.memory.stats()
            training.counts.append({key: after[key] - before[key] for key in COUNTED})

    _, memory, counts = trained(plan="swap", script=script)
    assert counts[-1] == dict.fromkeys(COUNTED, 0)
    ops = [op.name for op in memory.planned()["trace"].ops]
    assert ops.count("LinearFunction") == 3


def test_an_evaluation_between_iterations_is_no_surprise_to_the_plan():
    def script(training):
        training.train(5)
        training.evaluate()
        training.train(3)

    _, memory, counts = trained(plan="swap", script=script)
    assert memory.stats()["planned_iterations"] == 7
    assert sum(count["plan_misses"] for count in counts) == 0


def test_a_batch_of_another_size_is_noticed_and_the_plan_taken_up_after_it():
    def script(training):
        training.train(13)  # by then it is settled, whatever waits
        training.train(1, batch=10)
        training.train(3)

    def weights(**options):
        return trained(script=script, **options)

    ours, _, counts = weights(plan="swap")
    assert counts[13]["plan_misses"] >= 1
    assert [count["plan_misses"] for count in counts[14:]] == [0, 0, 0]
    assert_same(ours, weights(budget="1GiB")[0])


def test_another_batch_size_from_now_on_gets_a_plan_of_its_own():
    def script(training):
        training.train(5)
        training.train(8, batch=10)

    _, memory, counts = trained(plan="swap", script=script)
    assert counts[-1] == dict.fromkeys(COUNTED, 0)
    assert memory.planned()["trace"].batch[0] == 10 * 3 * 32 * 32 * 4


def test_a_network_that_is_another_each_time_trains_without_a_plan_and_says_so_once():
    class Changing(Net):
        def part(self, first, h):
            for number in range(first, first + 4):
                activation = self.pick.choice((F.relu, F.tanh, F.sigmoid))
                h = h + activation(self.norm(self.body[number](h)))
            return h

    def run(budget):
        Changing.pick = random.Random(1)
        with swapmem.Manager(device="host", device_memory=budget, plan="swap") as memory:
            training = Training(memory)
            training.model = Changing()
            training.optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(training.model)
            numpy.random.seed(1)
            training.train(25)
            weights = training.weights()
            return weights, memory.report()

    (ours, report), (theirs, _) = run(BUDGET), run("1GiB")
    assert_same(ours, theirs)
    assert report.count("iterations differ") == 1


def test_a_plan_that_is_none_is_refused():
    with pytest.raises(ValueError, match="auto, swap, recompute, none"):
        swapmem.Manager(device="host", plan="best")
