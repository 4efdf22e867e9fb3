"""Iterations of several kinds that take turns are planned together, the same to the last bit."""

from __future__ import annotations

import random

import chainer
import numpy
import pytest

import swapmem
import swapmem.chainer

F = chainer.functions
L = chainer.links

# After so many rounds a plan is settled, also where every one of those before was to be mended.
LONG = 14
COUNTED = ("faults", "plan_misses", "unplanned_evictions")
NOTHING = dict.fromkeys(COUNTED, 0)
BUDGET = "6MiB"


class Net(chainer.Chain):
    """Some convolutions of 16 channels, then a linear layer."""

    def __init__(self, depth):
        super().__init__()
        with self.init_scope():
            self.stem = L.Convolution2D(3, 16, 3, pad=1)
            self.body = chainer.ChainList(
                *(L.Convolution2D(16, 16, 3, pad=1) for _ in range(depth))
            )
            self.last = L.Linear(16 * 8 * 8, 10)

    def forward(self, x, t):
        h = F.max_pooling_2d(self.stem(x), 2)
        for layer in self.body:
            h = F.relu(layer(h))
        return F.softmax_cross_entropy(self.last(F.average_pooling_2d(h, 2)), t)


class Loop:
    """Steps of two models, counted one by one."""

    def __init__(self, memory):
        numpy.random.seed(0)
        self.memory = memory
        self.random = numpy.random.default_rng(1)
        self.models = {name: Net(depth) for name, depth in (("a", 8), ("b", 6))}
        self.optimizers = {
            name: chainer.optimizers.MomentumSGD(lr=0.01).setup(model)
            for name, model in self.models.items()
        }
        self.counts = []

    def step(self, name, batch=12):
        before = self.memory.stats()
        if name == "evaluate":
            with chainer.using_config("train", False), chainer.no_backprop_mode():
                self.models["a"](*self.data(batch))
        else:
            self.optimizers[name].update(self.models[name], *self.data(batch))
        after = self.memory.stats()
        self.counts.append({key: after[key] - before[key] for key in COUNTED})

    def data(self, batch):
        x = self.random.standard_normal((batch, 3, 32, 32)).astype(numpy.float32)
        return x, self.random.integers(0, 10, batch).astype(numpy.int32)

    def weights(self):
        return {
            f"{name}{path}": param.array.copy()
            for name, model in self.models.items()
            for path, param in model.namedparams()
        }


def trained(script, budget=BUDGET):
    with swapmem.Manager(device="host", device_memory=budget, plan="swap") as memory:
        loop = Loop(memory)
        script(loop)
        weights = loop.weights()
        loop.memory = None
        return weights, memory, loop.counts


def in_turn(*names, rounds):
    def script(loop):
        for _ in range(rounds):
            for name in names:
                loop.step(name)

    return script


def assert_same_as_in_core(weights, script):
    for name, array in trained(script, budget="1GiB")[0].items():
        numpy.testing.assert_array_equal(weights[name], array, err_msg=name)


@pytest.mark.parametrize(
    "names",
    [("a", "b"), ("a", "a", "b"), ("a", "evaluate")],
    ids=["two models", "two steps of one and one of the other", "training and evaluation"],
)
def test_kinds_that_take_turns_are_planned_as_one_round(names):
    script = in_turn(*names, rounds=LONG)
    weights, memory, counts = trained(script)
    assert counts[-len(names) :] == [NOTHING] * len(names)
    assert memory.stats()["swap_out_bytes"] > 0
    ops = [op.name for op in memory.planned()["trace"].ops]
    assert ops.count("SoftmaxCrossEntropy") == len(names)
    assert f"a round of {len(names)} iterations" in memory.report()
    assert_same_as_in_core(weights, script)


def test_an_odd_batch_in_a_round_is_a_miss_and_the_plan_is_taken_up_in_the_next():
    def script(loop):
        in_turn("a", "b", rounds=LONG)(loop)
        loop.step("a", batch=10)
        loop.step("b")
        in_turn("a", "b", rounds=2)(loop)

    weights, _, counts = trained(script)
    odd = 2 * LONG
    assert counts[odd]["plan_misses"] >= 1
    assert [count["plan_misses"] for count in counts[odd + 1 :]] == [0] * 5
    assert_same_as_in_core(weights, script)


def test_a_round_that_begins_elsewhere_is_found_again():
    def script(loop):
        in_turn("a", "b", rounds=LONG)(loop)
        loop.step("b")
        in_turn("a", "b", rounds=LONG)(loop)

    weights, _, counts = trained(script)
    assert counts[-2:] == [NOTHING] * 2
    assert_same_as_in_core(weights, script)


def test_without_an_order_nothing_is_planned_and_that_is_said_once():
    def script(loop):
        pick = random.Random(3)
        for _ in range(60):
            loop.step(pick.choice("ab"))

    weights, memory, _ = trained(script)
    assert memory.report().count("iterations differ") == 1
    assert memory.planned() == {}
    assert_same_as_in_core(weights, script)


def test_with_room_for_all_no_rounds_are_made():
    _, memory, _ = trained(in_turn("a", "evaluate", rounds=6), budget="1GiB")
    assert memory.stats()["iterations"] == 11
