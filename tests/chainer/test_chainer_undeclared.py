"""In paranoid mode, no function of Chainer touches an array that nobody announced."""

from __future__ import annotations

import chainer
import function_cases  # noqa: F401 - fills the table
import layer_cases  # noqa: F401
import numpy
import pytest
from case_table import CASES, WITHOUT_DOUBLE_BACKWARD

import swapmem
import swapmem.chainer

F = chainer.functions


def as_variable(array):
    if isinstance(array, tuple):
        return tuple(as_variable(item) for item in array)
    return chainer.Variable(array) if array.dtype.kind == "f" else array


def outputs_of(result):
    """The variables of floats among nested outputs."""
    if isinstance(result, chainer.Variable):
        return [result] if result.dtype.kind == "f" else []
    return [y for item in result for y in outputs_of(item)]


def flat(values):
    return [v for value in values for v in (flat(value) if isinstance(value, tuple) else [value])]


def like(variable):
    return chainer.Variable(numpy.full(variable.shape, 0.5, variable.dtype))


def backpropagate(name):
    function, *arrays = CASES[name]()
    inputs = [as_variable(array) for array in arrays]
    outputs = outputs_of(function(*inputs))
    for y in outputs:
        y.grad_var = like(y)
    chainer.backward(outputs)


def backpropagate_twice(name):
    function, *arrays = CASES[name]()
    inputs = [as_variable(array) for array in arrays]
    outputs = outputs_of(function(*inputs))
    variables = [x for x in flat(inputs) if isinstance(x, chainer.Variable)]
    gradients = chainer.grad(
        outputs, variables, [like(y) for y in outputs], enable_double_backprop=True
    )
    gradients = [g for g in gradients if g is not None and g.creator is not None]
    for g in gradients:
        g.grad_var = like(g)
    if gradients:
        chainer.backward(gradients)


@pytest.mark.parametrize("name", CASES)
def test_backward(name, tmp_path):
    with swapmem.Manager(
        device="host", device_memory="512MiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        backpropagate(name)
    assert swapmem.chainer.undeclared(memory) == []


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_DOUBLE_BACKWARD])
def test_double_backward(name, tmp_path):
    with swapmem.Manager(
        device="host", device_memory="512MiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        backpropagate_twice(name)
    assert swapmem.chainer.undeclared(memory) == []


class Secretive(chainer.FunctionNode):
    """Reads an array where nobody looks for one."""

    def forward(self, inputs):
        return (self.compute(inputs[0]),)


@pytest.fixture
def memory(tmp_path):
    with swapmem.Manager(
        device="host", device_memory="64MiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        yield memory


def test_a_touch_of_what_was_not_announced_is_named(memory):
    secret = numpy.ones((64, 512), numpy.float32)
    function = Secretive()
    function.compute = lambda x: x + secret
    F.identity(numpy.ones((64, 512), numpy.float32))  # swaps out the rest
    function.apply((numpy.ones((64, 512), numpy.float32),))
    (entry,) = swapmem.chainer.undeclared(memory)
    assert entry == ("Secretive", "function.compute.<secret>: float32[64, 512]", 1 << 17, 1)
    lines = swapmem.chainer.undeclared_report(memory).splitlines()
    assert lines[0] == "1 undeclared arrays, 0 touches outside every operation"
    assert "Secretive" in lines[1]
    assert "function.compute.<secret>" in lines[1]


def test_a_touch_of_what_the_function_does_not_refer_to_is_counted(memory):
    secrets = {"a": numpy.ones((64, 512), numpy.float32)}
    function = Secretive()
    function.compute = eval("lambda x: x + secrets['a']", {"secrets": secrets})
    F.identity(numpy.ones((64, 512), numpy.float32))
    function.apply((numpy.ones((64, 512), numpy.float32),))
    (entry,) = swapmem.chainer.undeclared(memory)
    assert entry[:2] == ("Secretive", "not reachable from the function")


def test_touches_outside_every_op_are_no_fault_of_a_function(memory):
    array = numpy.ones((64, 512), numpy.float32)
    F.identity(array)
    assert array.sum() == array.size
    assert swapmem.chainer.undeclared(memory) == []
    assert "1 touches outside" in swapmem.chainer.undeclared_report(memory)
