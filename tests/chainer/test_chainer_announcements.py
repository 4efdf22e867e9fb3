"""What the hook announces of each operation: with an engine that records."""

from __future__ import annotations

import chainer
import numpy
import pytest
from chainer_fakes import FakeEngine, FakeManager, address
from small_network import Branches, batch, floats

from swapmem.chainer.hooks import OpHook

F = chainer.functions


def test_every_op_ends_and_those_inside_another_end_before_it(manager, engine):
    with OpHook(manager):
        model = Branches()
        model(*batch()).backward()
    open_ops = []
    for name in engine.names():
        if name.startswith("+"):
            open_ops.append(name[1:])
        else:
            assert name == "-" + open_ops.pop()
    assert open_ops == []
    assert "BatchNormalization" in {name for name, _ in engine.named("begin")}
    assert "BatchNormalization backward" in {name for name, _ in engine.named("begin")}


def test_nothing_is_announced_before_and_after_the_context(manager, engine):
    F.relu(floats(3))
    with OpHook(manager):
        pass
    F.relu(floats(3))
    assert engine.names() == []


def test_forward_announces_the_whole_array_behind_each_input(manager, engine):
    a, b, c = floats(8, 8), floats(8, 8), floats(1, 8)
    views = (
        a[::-1, 3:],
        numpy.lib.stride_tricks.as_strided(b, (2, 2)),
        numpy.broadcast_to(c, (8, 8)),
    )
    with OpHook(manager):
        for view in views:
            F.identity(view)
    assert engine.announced("Identity") == {address(array) for array in (a, b, c)}


def test_an_empty_array_of_its_own_is_not_announced(manager, engine):
    with OpHook(manager):
        F.identity(floats(8, 8)[8:][::-1])
        F.identity(floats(0))
    # A view of nothing still belongs to its array.
    assert [len(addresses) for _, addresses in engine.named("begin")] == [1, 0]


def test_arrays_too_small_to_be_blocks_are_not_announced():
    manager = FakeManager(FakeEngine(min_block_bytes=1024))
    large, small = floats(256), floats(255)
    with OpHook(manager):
        F.identity(large)
        F.identity(small)
        F.identity(large[:2])
    assert [len(addresses) for _, addresses in manager.engine.named("begin")] == [1, 0, 1]


class Keeper(chainer.Function):
    """An old-style function that keeps arrays in all sorts of places."""

    def __init__(self, kept):
        self.kept = kept
        self.cycle = {"self": self}

    def forward(self, inputs):
        self.late = {"deep": [(inputs[0] * 2,)]}
        return (inputs[0] + 1,)

    def backward(self, inputs, gradients):
        return gradients


class Holder:
    def __init__(self, array):
        self.array = array


def test_arrays_in_attributes_of_an_old_style_function_are_announced(manager, engine):
    arrays = [floats(4) for _ in range(6)]
    kept = [arrays[0], (arrays[1], None), {"a": arrays[2]}, Holder(arrays[3])]
    kept += [chainer.Variable(arrays[4]), {"s": [arrays[5]]}]
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        function = Keeper(kept)
        y = function(x)
        F.sum(y).backward()
    expected = {address(array) for array in arrays}
    assert engine.announced("Keeper") == expected | {address(x.array)}
    late = address(function.late["deep"][0][0])
    assert engine.announced("Keeper backward") >= expected | {late, address(x.array)}


def test_backward_announces_what_the_function_keeps_and_its_gradients(manager, engine):
    x = chainer.Variable(floats(2, 4, 8, 8))
    with OpHook(manager):
        pooled = F.max_pooling_2d(x, 2)
        y = F.dropout(pooled)
        y.grad = floats(*y.shape)
        gradient = address(y.grad)
        y.backward()
    pooling, dropout = pooled.creator_node, y.creator_node
    assert engine.announced("Dropout backward") == {gradient, address(dropout.mask)}
    assert address(pooling.indexes) in engine.announced("MaxPoolingND backward")


def test_backward_announces_retained_inputs_and_outputs(manager, engine):
    x, w = chainer.Variable(floats(2, 3)), chainer.Parameter(floats(4, 3))
    with OpHook(manager):
        y = F.sigmoid(F.linear(x, w))
        y.grad = floats(2, 4)
        y.backward()
    assert {address(x.array), address(w.array)} <= engine.announced("LinearFunction backward")
    assert address(y.array) in engine.announced("Sigmoid backward")


def test_backward_announces_the_array_that_a_user_put_in_place_of_an_output(manager, engine):
    with OpHook(manager):
        y = F.sigmoid(chainer.Variable(floats(4)))
        y.array = floats(4)
        y.grad = floats(4)
        y.backward()
    assert address(y.array) in engine.announced("Sigmoid backward")


def test_backward_does_not_announce_inputs_that_only_others_retained(manager, engine):
    a, b = chainer.Variable(floats(4)), chainer.Variable(floats(4))
    with OpHook(manager):
        y = a + b
        z = a * b  # retains both
        y.grad, z.grad = floats(4), floats(4)
        gradient = address(y.grad)
        y.backward()
    assert engine.announced("_ + _ backward") == {gradient}


class Accumulating(chainer.FunctionNode):
    """Adds to the gradient of its input by itself."""

    def forward(self, inputs):
        return (inputs[0].copy(),)

    def backward_accumulate(self, indexes, grad_outputs, grad_inputs):
        (gradient,), (accumulated,) = grad_outputs, grad_inputs
        if accumulated is None:
            return (gradient,)
        return (chainer.Variable(gradient.array + accumulated.array),)


@pytest.mark.parametrize("lazy", [False, True])
def test_gradients_that_a_function_adds_to_are_announced(manager, engine, lazy):
    x = chainer.Variable(floats(4))
    x.grad = floats(4)
    kept = address(x.grad)
    with OpHook(manager), chainer.using_config("lazy_grad_sum", lazy):
        (y,) = Accumulating().apply((x,))
        y.grad = floats(4)
        y.backward()
    assert kept in engine.announced("Accumulating backward")
    numpy.testing.assert_array_equal(x.grad, [2, 2, 2, 2])
