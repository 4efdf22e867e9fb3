"""Where a touch cannot be served, only what will be announced is swapped out.

The engine here is over RAM and swaps out what was offered and nothing else, as one over a GPU does.
A touch that would end all work on a GPU is a fault here, and there must be none, not even outside
operations. In paranoid mode whatever is offered is swapped out at the end of each operation.
"""

from __future__ import annotations

import gc
import threading
import weakref

import chainer
import function_cases  # noqa: F401 - fills the table
import layer_cases  # noqa: F401
import numpy
import pytest
from case_table import CASES, WITHOUT_DOUBLE_BACKWARD
from test_chainer_training import BATCH, IMAGES, LABELS, new_model
from test_chainer_undeclared import as_variable, backpropagate_twice, outputs_of

import swapmem
import swapmem.chainer
from swapmem import _core

F = chainer.functions


@pytest.fixture
def rehearsal(monkeypatch, tmp_path):
    """Makes managers over RAM that keep to a GPU's rules."""
    monkeypatch.setattr(_core, "host_engine", _core.rehearsal_engine)

    def make(budget="512MiB", paranoid=True):
        return swapmem.Manager("host", budget, tmp_path, paranoid=paranoid)

    return make


def hidden(inputs):
    """Copies that only the graph will hold."""
    return [
        tuple(hidden(x))
        if isinstance(x, tuple)
        else x * 1
        if isinstance(x, chainer.Variable)
        else x
        for x in inputs
    ]


def loss_of(name):
    function, *arrays = CASES[name]()
    outputs = outputs_of(function(*hidden([as_variable(array) for array in arrays])))
    return sum(F.sum(y * 1) for y in outputs)


@pytest.mark.parametrize("name", CASES)
def test_no_function_touches_what_was_swapped_out(name, rehearsal):
    with rehearsal() as memory:
        loss = loss_of(name)
        if isinstance(loss, chainer.Variable):
            loss.backward()
        del loss
    assert memory.faults() == []


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_DOUBLE_BACKWARD])
def test_no_function_touches_what_was_swapped_out_when_differentiated_twice(name, rehearsal):
    with rehearsal() as memory:
        backpropagate_twice(name)
    assert memory.faults() == []


def train(steps=3):
    model, optimizer = new_model()
    for step in range(steps):
        start = step * BATCH % (len(IMAGES) - BATCH)
        batch = slice(start, start + BATCH)
        numpy.random.seed(step)
        optimizer.update(model, IMAGES[batch], LABELS[batch])
    return [parameter.array.copy() for parameter in model.params()]


@pytest.mark.parametrize("budget", ["24MiB", "512MiB"])
@pytest.mark.parametrize("paranoid", [False, True])
def test_training_swaps_and_changes_no_bit(budget, paranoid, rehearsal):
    expected = train()
    with rehearsal(budget, paranoid) as memory:
        weights = train()
    assert memory.faults() == []
    for one, other in zip(expected, weights, strict=True):
        numpy.testing.assert_array_equal(one, other)
    if paranoid:
        assert memory.stats()["swap_in_count"] > 0
    memory.engine.check_invariants()


def graph(x):
    """Three functions; the first two results are the graph's alone."""
    return F.sum(F.tanh(F.tanh(F.tanh(x))))


def variable():
    return chainer.Variable(numpy.full(1 << 16, 0.5, numpy.float32))


def states(memory, arrays):
    return [memory.block(array).state for array in arrays]


def test_what_a_variable_still_has_stays(rehearsal):
    with rehearsal() as memory:
        x = variable()
        kept = F.tanh(x)
        y = F.tanh(F.tanh(kept))
        y = F.tanh(y) * 2
        y = y * 2
        assert memory.block(kept.array).state == "resident"
        assert memory.stats()["swap_out_count"] > 0
        assert memory.faults() == []


@pytest.mark.parametrize("keep", ["the array", "a view", "a view of a view", "in a list"])
def test_what_anything_else_refers_to_stays(keep, rehearsal):
    with rehearsal() as memory:
        hidden = F.tanh(variable())
        array = hidden.array
        address = array.ctypes.data
        kept = {
            "the array": array,
            "a view": array[1:],
            "a view of a view": array.reshape(256, 256)[1:].T,
            "in a list": [array],
        }[keep]
        y = F.tanh(hidden)
        del hidden, array
        for _ in range(4):
            y = F.tanh(y)
        assert memory.engine.block(address)[3] == "resident"
        del kept
        for _ in range(70):
            y = y * 1
        assert memory.engine.block(address)[3] == "out"


def test_a_backward_in_a_thread_that_takes_no_part_is_announced(rehearsal):
    with rehearsal() as memory:
        x = variable()
        loss = graph(x)
        assert memory.stats()["swap_out_count"] > 0
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        assert x.grad is not None
    assert memory.faults() == []


def test_a_backward_after_the_manager_was_left_is_announced(rehearsal):
    with rehearsal() as memory:
        x = variable()
        loss = graph(x)
        assert memory.stats()["swap_out_count"] > 0
    loss.backward()
    assert x.grad is not None
    assert memory.faults() == []


class Reader(chainer.FunctionHook):
    """Reads what it is shown, before and after operations."""

    def look(self, function, in_data, out_grad=()):
        for array in (*in_data, *out_grad):
            if array is not None:
                float(array.sum())

    forward_preprocess = forward_postprocess = backward_preprocess = backward_postprocess = look


@pytest.mark.parametrize("entered", ["before", "inside", "before backward"])
def test_another_function_hook_finds_everything_there(entered, rehearsal):
    manager = rehearsal()
    if entered == "before":
        with Reader(), manager as memory:
            graph(variable()).backward()
        assert memory.stats()["swap_out_count"] == 0
    elif entered == "inside":
        with manager as memory, Reader():
            graph(variable()).backward()
        assert memory.stats()["swap_out_count"] == 0
    else:
        with manager as memory:
            loss = graph(variable())
            with Reader():
                loss.backward()
        assert memory.stats()["swap_out_count"] > 0
    assert memory.faults() == []


def test_an_exception_in_the_middle_leaves_the_graph_usable(rehearsal):
    with rehearsal() as memory:
        x = variable()
        hidden = F.tanh(F.tanh(x))
        with pytest.raises(chainer.utils.type_check.InvalidType):
            F.matmul(hidden, numpy.zeros((2, 2), numpy.float32))
        F.sum(F.tanh(hidden)).backward()
    assert memory.faults() == []


def test_the_report_says_what_stays_and_why(rehearsal):
    with rehearsal() as memory:
        kept = F.tanh(F.tanh(variable()))
        y = kept * 2
        y = y * 2
        report = memory.report()
        del kept, y
    assert "may be swapped out" in report
    assert "of Tanh, 256.0 KiB: referred to from outside the graph" in report


def test_nothing_lives_longer_because_of_the_proof(rehearsal):
    with rehearsal() as memory:
        x = variable()
        gc.collect()
        before = memory.stats()["live_bytes"]
        loss = graph(x)
        loss.backward()
        x.cleargrad()
        gc.disable()
        try:
            del loss
            assert memory.stats()["live_bytes"] == before
        finally:
            gc.enable()


def test_a_graph_outlives_its_manager_into_the_next(rehearsal):
    x = variable()
    with rehearsal() as first:
        loss = graph(x)
    engine = first.engine
    del first
    gc.collect()
    with rehearsal():
        loss.backward()
    assert x.grad is not None
    assert engine.faults() == []


def test_the_engine_ends_with_its_manager_and_graph_without_a_collection(rehearsal):
    gc.disable()
    try:
        manager = rehearsal()
        engine = weakref.ref(manager.engine)
        with manager:
            x = variable()
            loss = graph(x)
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        del manager, x, loss, thread
        assert engine() is None
    finally:
        gc.enable()
