"""Graphs that one backward pass goes through keep nothing behind it."""

from __future__ import annotations

import weakref

import chainer
import numpy
import pytest
from segmented import images, labels, outcome

import swapmem
from swapmem.chainer import BackwardOnce, BackwardTwice
from swapmem.chainer.segments import recomputing, segment

F = chainer.functions


def update(model, optimizer):
    optimizer.update(model, images(), labels())


def update_once(model, optimizer):
    with BackwardOnce():
        update(model, optimizer)
        update(model, optimizer)


def update_twice(model, optimizer):
    update(model, optimizer)
    update(model, optimizer)


@pytest.mark.parametrize("recomputed", [(), ("first",), ("first", "second", "again")])
def test_the_weights_are_the_same(recomputed):
    assert outcome(update_once, recomputed) == outcome(update_twice, ())


class Passed(chainer.FunctionHook):
    """Before each backward: which of the arrays that forward read or made are alive."""

    name = "passed"

    def __init__(self):
        self.made = []
        self.alive = {}

    def forward_preprocess(self, function, in_data):
        self.made.append((function.label, weakref.ref(in_data[0])))

    def backward_preprocess(self, function, in_data, out_grad):
        del in_data
        self.alive[function.label] = {label for label, array in self.made if array() is not None}


@pytest.mark.parametrize("recomputed", [(), ("part",)])
def test_what_backward_has_passed_is_gone(recomputed):
    x = chainer.Variable(images())
    with Passed() as passed, BackwardOnce(), recomputing(recomputed):
        h = F.sin(F.identity(x))
        y = F.sum(segment("part", lambda x: F.cos(F.exp(F.tanh(x))), h))
        del h
        y.backward()
    assert "cos" not in passed.alive["Tanh"]
    assert "exp" not in passed.alive["sin"]
    assert "sin" in passed.alive["sin"]


def test_masks_and_indices_are_gone_too():
    x = chainer.Variable(images())
    with BackwardOnce():
        pooled = F.max_pooling_2d(x, 2)
        function = pooled.creator_node
        F.sum(pooled).backward()
    arrays = [v for v in vars(function).values() if isinstance(v, numpy.ndarray)]
    assert arrays == []
    assert not any(function._retained_output_data)


def test_variables_of_the_program_keep_their_arrays():
    x = chainer.Variable(images())
    with BackwardOnce():
        h = F.tanh(x)
        loss = F.sum(h)
        loss.backward()
    numpy.testing.assert_array_equal(h.array, numpy.tanh(images()))
    assert loss.array is not None
    assert (h.shape, h.node.shape) == (images().shape, images().shape)


@pytest.mark.parametrize("recomputed", [(), ("part",)])
def test_a_second_pass_is_refused(recomputed):
    with BackwardOnce():
        h = F.sin(chainer.Variable(images()))
        with recomputing(recomputed):
            y = segment("part", lambda x: F.cos(F.exp(x)), h)
        del h
        y.grad = images()
        y.backward()
        with pytest.raises(BackwardTwice, match="second backward pass came to cos"):
            y.backward()
    with pytest.raises(BackwardTwice, match="do without BackwardOnce"):
        y.backward()


def test_under_double_backprop_everything_stays():
    x = chainer.Variable(images())
    with BackwardOnce():
        y = F.sum(F.tanh(x))
        y.backward(enable_double_backprop=True)
        gradient = x.grad_var
        x.cleargrad()
        F.sum(gradient * gradient).backward()
        assert x.grad is not None


class Live(chainer.FunctionHook):
    """The bytes of all blocks, before each backward operation."""

    name = "live"

    def __init__(self, memory):
        self.memory = memory
        self.bytes = []

    def backward_preprocess(self, function, in_data, out_grad):
        self.bytes.append(self.memory.stats()["live_bytes"])


def live_bytes(hook, tmp_path):
    """Of eight functions, each of which keeps what it has made."""
    with (
        swapmem.Manager(device="host", device_memory="64MiB", spill_dir=tmp_path) as memory,
        Live(memory) as live,
    ):
        h = chainer.Variable(numpy.ones((1 << 20,), numpy.float32))
        with hook:
            for _ in range(8):
                h = F.tanh(h)
            loss = F.sum(h)
            del h
            loss.backward()
    return live.bytes


def test_the_memory_in_use_falls_while_backward_goes_on(tmp_path):
    class Nothing(chainer.FunctionHook):
        name = "nothing"

    with_hook, without = live_bytes(BackwardOnce(), tmp_path), live_bytes(Nothing(), tmp_path)
    assert with_hook[1] == without[1]
    block_bytes = 4 << 20
    assert without[-1] - with_hook[-1] == 7 * block_bytes
