"""What a recomputed segment holds: between forward and backward, while backward runs, and after."""

from __future__ import annotations

import gc
import weakref

import chainer
import numpy
import pytest
from segmented import Net, images, labels

from swapmem.chainer import segments
from swapmem.chainer.segments import recomputing, segment

F = chainer.functions


class Arrays(chainer.FunctionHook):
    """Follows the arrays that functions of one segment read."""

    name = "arrays"

    def __init__(self, name):
        self.segment = name
        self.read = []
        self.alive_after = []
        self.alive_before = {}

    def forward_preprocess(self, function, in_data):
        if segments.current() == self.segment:
            self.alive_before[function.label] = self.alive()
            self.read.append((function.label, weakref.ref(in_data[0])))

    def backward_preprocess(self, function, in_data, out_grad):
        # Before this one: the loop has let go by now of what the function before read.
        self.alive_after.append(self.alive())

    def alive(self):
        return [label for label, array in self.read if array() is not None]


def chain(x):
    return F.tanh(F.cos(F.sin(F.exp(x))))


@pytest.mark.parametrize("is_recomputed", [False, True])
def test_nothing_is_held_between_forward_and_backward_but_what_goes_in_and_out(is_recomputed):
    x = chainer.Variable(images())
    with Arrays("part") as arrays, recomputing({"part"} if is_recomputed else ()):
        y = segment("part", chain, F.identity(x))
        z = F.sum(y)
    assert arrays.alive() == (["exp"] if is_recomputed else ["exp", "sin", "cos"])
    z.backward()


def test_normalization_dropout_and_pooling_hold_nothing_large():
    numpy.random.seed(0)
    model = Net()
    with Arrays("first") as arrays, recomputing({"first"}):
        loss = model(images(), labels())
    assert arrays.alive() == ["Convolution2DFunction"]
    function = loss.creator_node
    held, queue, met = 0, [function], set()
    while queue:
        function = queue.pop()
        if id(function) in met:
            continue
        met.add(id(function))
        if function.label in ("BatchNormalization", "Dropout", "MaxPoolingND"):
            held += any(
                isinstance(value, numpy.ndarray) and value.nbytes > 1000
                for value in vars(function).values()
            )
        queue += [node.creator_node for node in function.inputs if node.creator_node is not None]
    # Those of the other two segments.
    assert held == 2 * 2


def test_what_came_back_goes_as_backward_passes_it():
    x = chainer.Variable(images())
    with recomputing({"part"}):
        z = F.sum(segment("part", chain, F.identity(x)))
    with Arrays("part") as arrays:
        z.backward()
    # Sum, tanh, cos, sin, exp, identity. Exp and sin run again, for what cos and exp keep; what exp
    # reads is the graph's own.
    assert arrays.alive_after == [[], [], [], ["exp", "sin"], ["exp", "sin"], ["exp"]]


def test_what_no_function_keeps_goes_while_the_segment_runs_again():
    x = chainer.Variable(images())
    with recomputing({"part"}):
        z = F.sum(segment("part", lambda h: F.cos(F.sin(F.relu(F.exp(h) + 1))), F.identity(x)))
    with Arrays("part") as arrays:
        z.backward()
    # ReLU keeps what it makes and not what it reads.
    assert [label for label, _ in arrays.read] == ["exp", "_ + 1", "ReLU", "sin"]
    assert arrays.alive_before["ReLU"] == ["exp", "_ + 1"]
    assert arrays.alive_before["sin"] == ["exp", "_ + 1"]


@pytest.mark.parametrize("runs_backward", [False, True])
def test_a_graph_that_is_dropped_is_gone_at_once(runs_backward):
    gc.collect()
    gc.disable()
    try:
        x = chainer.Variable(images())
        with recomputing({"part"}):
            y = segment("part", chain, x)
            z = F.sum(y)
        nodes = [weakref.ref(z.creator_node), weakref.ref(y.creator_node)]
        if runs_backward:
            z.backward()
        assert all(node() is not None for node in nodes)
        del y, z
        assert all(node() is None for node in nodes)
    finally:
        gc.enable()


def test_what_double_backprop_needs_stays():
    x = chainer.Variable(images())
    with recomputing({"part"}):
        z = F.sum(segment("part", chain, x))
    with Arrays("part") as arrays:
        (gradient,) = chainer.grad([z], [x], enable_double_backprop=True)
        assert arrays.alive() == ["exp", "sin"]
        F.sum(gradient * gradient).backward()
    # It did not run once more.
    assert [label for label, _ in arrays.read] == ["exp", "sin"]


def test_variables_that_a_model_keeps_are_not_taken_from_it():
    kept: list[chainer.Variable] = []

    def part(x):
        kept.append(F.exp(x))
        return F.sin(F.cos(kept[-1]))

    x = chainer.Variable(images())
    with recomputing({"part"}):
        y = segment("part", part, x)
    # A function outside the segment needs it too, before the segment runs again and after.
    z = F.sum(y) + F.sum(F.sin(kept[0]) * kept[0])
    z.backward()
    first = x.grad.copy()
    x.cleargrad()
    z.backward()
    numpy.testing.assert_array_equal(x.grad, first)
