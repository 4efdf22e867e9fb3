"""Segments that cannot be recomputed: refused or stored; nothing is left behind in either case."""

from __future__ import annotations

import random
import threading

import chainer
import numpy
import pytest
from segmented import images

from swapmem.chainer import segments
from swapmem.chainer.recompute import RecomputeError
from swapmem.chainer.segments import choose, chosen, recomputing, segment

F = chainer.functions


def configuration():
    return {key: getattr(chainer.config, key) for key in vars(chainer.global_config)}


@pytest.fixture(autouse=True)
def _leaves_nothing_behind():
    before = configuration()
    numpy.random.seed(0)
    yield
    assert configuration() == before
    assert chainer.get_function_hooks() == {}
    assert segments.current() is None
    assert chosen() == frozenset()


class Fickle:
    """Calls one of some functions, the next one each time."""

    def __init__(self, *functions):
        self.functions = functions
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return self.functions[min(self.calls, len(self.functions)) - 1](x)


def loss_of(part):
    x = chainer.Variable(images())
    with recomputing({"part"}):
        return x, F.sum(segment("part", part, x))


def ordinary(x):
    return F.sin(F.exp(F.dropout(x)))


def gradient_of(part):
    numpy.random.seed(0)
    x, loss = loss_of(part)
    loss.backward()
    return x.grad


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: F.sin(F.tanh(F.dropout(x))), r"operation 2 was \w+ of float32\[4, 6, 5, 5\], "),
        (lambda x: F.sin(F.exp(F.dropout(x[:2]))), "operation 1 was Dropout .*, and now GetItem "),
        (lambda x: F.dropout(x), r"operation 2 was Exp .*, and now nothing"),
        (lambda x: F.dropout(x.array[:1]), r"and now Dropout of float32\[1, 6, 5, 5\]"),
    ],
)
def test_a_segment_that_does_something_else_is_refused_and_the_graph_is_as_it_was(other, message):
    part = Fickle(ordinary, other, ordinary)
    x, loss = loss_of(part)
    state = numpy.random.get_state()[2]
    with pytest.raises(RecomputeError, match=message) as error:
        loss.backward()
    assert error.value.segment == "part"
    assert "'part'" in str(error.value)
    assert numpy.random.get_state()[2] == state
    # It was called right the third time.
    loss.backward()
    numpy.testing.assert_array_equal(x.grad, gradient_of(ordinary))


class Failure(Exception):
    pass


def failing(x):
    F.exp(F.dropout(x))
    random.random()
    raise Failure


def test_an_exception_in_a_segment_that_runs_again_leaves_the_graph_as_it_was():
    x, loss = loss_of(Fickle(lambda x: ordinary(x) if random.random() else x, failing, ordinary))
    states = numpy.random.get_state()[2], random.getstate()
    with pytest.raises(Failure):
        loss.backward()
    assert (numpy.random.get_state()[2], random.getstate()) == states
    loss.backward()
    numpy.testing.assert_array_equal(x.grad, gradient_of(ordinary))


def test_an_exception_in_a_segment_leaves_nothing_behind():
    with pytest.raises(Failure):
        loss_of(failing)


def test_no_handler_in_a_model_stops_a_segment_from_ending_early():
    calls = []

    def part(x):
        try:
            return F.tanh(F.sin(F.exp(x)))
        except Exception:
            calls.append("handled")
            raise
        finally:
            calls.append("finally")

    numpy.testing.assert_array_equal(
        gradient_of(part), gradient_of(lambda x: F.tanh(F.sin(F.exp(x))))
    )
    assert calls == ["finally", "finally"]


def test_a_segment_with_a_backward_pass_inside_is_stored():
    weight = chainer.Parameter(images(1))

    def part(x):
        h = F.exp(x) * weight
        F.sum(h * h).backward()
        return F.sin(h)

    part = Fickle(part)
    weight.cleargrad()
    gradient_of(part)
    assert part.calls == 1


def test_a_gradient_taken_inside_a_segment_is_right():
    def part(x):
        (gradient,) = chainer.grad([F.sum(F.exp(x) * x)], [x], enable_double_backprop=True)
        return F.sin(gradient)

    gradients = []
    for names in ((), {"part"}):
        x = chainer.Variable(images())
        with recomputing(names):
            F.sum(segment("part", part, x)).backward()
        gradients.append(x.grad)
    numpy.testing.assert_array_equal(*gradients)


def test_what_is_chosen_is_chosen_for_the_calling_thread():
    def other():
        found.append(chosen())
        choose({"b"})
        found.append(chosen())

    found: list[frozenset[str]] = []
    choose(["a"])
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [frozenset(), {"b"}]
    assert chosen() == {"a"}
    choose(())


def test_a_context_goes_before_what_is_chosen():
    choose({"a"})
    with recomputing({"b"}):
        assert chosen() == {"b"}
        choose({"c"})
        with recomputing(()):
            assert chosen() == frozenset()
        assert chosen() == {"b"}
    assert chosen() == {"c"}
    choose(())


def test_backward_may_run_in_another_thread():
    numpy.random.seed(0)
    x, loss = loss_of(ordinary)
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    numpy.testing.assert_array_equal(x.grad, gradient_of(ordinary))
