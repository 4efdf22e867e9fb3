"""How the hook recovers from exceptions, comes and goes, and lets go of everything."""

from __future__ import annotations

import gc
import threading
import weakref

import chainer
import pytest
from chainer_fakes import FakeManager
from small_network import Branches, batch, floats

from swapmem import adapters
from swapmem.chainer.hooks import OpHook

F = chainer.functions


class Failing(chainer.FunctionNode):
    def __init__(self, *, forward=False, backward=False):
        self.fail_forward, self.fail_backward = forward, backward

    def forward(self, inputs):
        if self.fail_forward:
            raise ValueError("forward")
        return (inputs[0] * 2,)

    def backward(self, indexes, gradients):
        doubled = gradients[0] * 2
        if self.fail_backward:
            Failing(forward=True).apply((doubled,))
        return (doubled,)


def test_the_next_op_closes_what_a_failed_forward_left_open(manager, engine):
    with OpHook(manager):
        with pytest.raises(ValueError, match="forward"):
            Failing(forward=True).apply((floats(4),))
        assert engine.open == ["Failing"]
        F.identity(floats(4))
        assert engine.open == []
    assert engine.names() == ["+Failing", "!Failing", "+Identity", "-Identity"]


def test_the_next_op_closes_what_a_failed_backward_left_open(manager, engine):
    x = chainer.Variable(floats(4))
    with OpHook(manager):
        (y,) = Failing(backward=True).apply((x,))
        with pytest.raises(ValueError, match="forward"):
            F.sum(y).backward()
        assert engine.open == ["Failing backward", "Failing"]
        F.sum(F.exp(x)).backward()
        assert engine.open == []
    assert engine.names().count("iteration") == 1


def test_leaving_closes_what_an_exception_left_open_and_nothing_else(manager, engine):
    engine.begin_op("the user's own", [], engine.current_stream)
    hook = OpHook(manager)
    with pytest.raises(ValueError, match="forward"), hook:
        Failing(forward=True).apply((floats(4),))
    assert engine.open == ["the user's own"]


class Forgiving(chainer.FunctionNode):
    """Runs other functions inside its own forward, one of which fails."""

    def forward(self, inputs):
        try:
            F.identity(Failing(forward=True).apply(inputs)[0])
        except ValueError:
            return (F.identity(inputs[0]).array,) if self.goes_on else (inputs[0],)

    def __init__(self, *, goes_on):
        self.goes_on = goes_on


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_op_that_survives_a_failure_inside_it_stays_open(manager, engine, goes_on):
    with OpHook(manager):
        Forgiving(goes_on=goes_on).apply((floats(4),))
    inside = ["+Identity", "-Identity"] if goes_on else []
    expected = ["+Forgiving", "+Failing", "!Failing", *inside, "-Forgiving"]
    assert engine.names() == expected


def test_an_op_that_does_not_fit_leaves_nothing_open(manager, engine):
    engine.refuse = {"exp"}
    with OpHook(manager):
        with pytest.raises(MemoryError):
            F.exp(floats(4))
        F.identity(floats(4))
    assert engine.names() == ["+Identity", "-Identity"]


def test_a_hook_that_calls_this_one_changes_nothing(manager, engine):
    inner = OpHook(manager)

    class Outer(chainer.FunctionHook):
        name = "outer"

        def added(self, function):
            inner.added(function)

        def forward_preprocess(self, function, in_data):
            inner.forward_preprocess(function, in_data)

        def forward_postprocess(self, function, in_data):
            inner.forward_postprocess(function, in_data)

        def backward_preprocess(self, function, in_data, out_grad):
            inner.backward_preprocess(function, in_data, out_grad)

        def backward_postprocess(self, function, in_data, out_grad):
            inner.backward_postprocess(function, in_data, out_grad)

    with Outer():
        model = Branches()
        model(*batch()).backward()
    assert not any(name.startswith("!") for name in engine.names())
    assert engine.named("prefetch")


def test_two_managers_at_once_are_both_told(manager, engine):
    other = FakeManager()
    with OpHook(manager), OpHook(other):
        F.identity(floats(4))
    assert engine.names() == other.engine.names() == ["+Identity", "-Identity"]


def test_a_thread_that_takes_part_twice_announces_once(manager, engine):
    with OpHook(manager):
        with OpHook(manager):
            F.identity(floats(4))
        F.identity(floats(4))
    F.identity(floats(4))
    assert engine.names() == ["+Identity", "-Identity"] * 2


def test_a_hook_belongs_to_the_thread_that_entered_it(manager, engine):
    with OpHook(manager):
        thread = threading.Thread(target=lambda: F.identity(floats(4)))
        thread.start()
        thread.join()
    assert engine.names() == []


def test_entering_within_an_op_ignores_the_end_of_that_op(manager, engine):
    hook = OpHook(manager)

    class Entering(chainer.FunctionNode):
        def forward(self, inputs):
            hook.__enter__()
            return inputs

    Entering().apply((floats(4),))
    F.identity(floats(4))
    hook.__exit__()
    assert engine.names() == ["+Identity", "-Identity"]


def test_nothing_lives_longer_because_of_the_hook(manager):
    """Without a garbage collection the graph and its arrays are gone where Chainer lets go."""
    with OpHook(manager):
        x = chainer.Variable(floats(64))
        h = F.exp(x)
        array = weakref.ref(h.array)
        y = F.sum(h * h)
        node = weakref.ref(y.creator_node)
        gc.collect()
        gc.disable()
        try:
            y.backward()
            del h, y
            assert array() is None
            assert node() is None
        finally:
            gc.enable()


class GradientWatcher(chainer.FunctionHook):
    """Whether the gradient that a pass meets first is gone when the last op begins."""

    name = "gradient watcher"
    first = None
    gone = None

    def backward_preprocess(self, function, in_data, out_grad):
        if function.label == "sin":
            self.first = weakref.ref(out_grad[0])
        elif function.label == "exp":
            self.gone = self.first() is None


def test_gradients_are_freed_during_the_backward_pass(manager):
    watcher = GradientWatcher()
    with OpHook(manager), watcher:
        x = chainer.Variable(floats(64))
        h = F.exp(x)
        # Chainer makes the first gradient itself, and nobody else holds it.
        chainer.grad([F.sin(F.cos(h)), h], [x])
    assert watcher.gone


def test_the_adapter_is_registered_once():
    class Manager(FakeManager):
        paranoid = False

        def faults(self):
            return []

    contexts = adapters.contexts(Manager())
    assert [type(context) for context in contexts].count(OpHook) == 1


def test_registering_twice_changes_nothing(monkeypatch):
    monkeypatch.setattr(adapters, "_factories", [])
    made = []
    adapters.register(made.append)
    adapters.register(made.append)
    adapters.contexts("the manager")
    assert made == ["the manager"]
