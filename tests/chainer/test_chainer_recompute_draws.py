"""Random numbers of segments that run again: from generators that can be set back, and others."""

from __future__ import annotations

import random
from types import SimpleNamespace

import chainer
import numpy
import pytest
from chainer.functions.activation.rrelu import RReLU
from chainer.functions.noise.dropout import Dropout
from segmented import images

from swapmem.chainer import draws
from swapmem.chainer.draws import Draws, drawn_by, hand_over
from swapmem.chainer.segments import recomputing, segment

F = chainer.functions


def values():
    return [*numpy.random.rand(3), *numpy.random.standard_normal(3), random.random()]


def test_numpy_and_python_draw_the_same_again_and_go_on_as_if_they_had_not():
    numpy.random.seed(1)
    random.seed(1)
    # An odd number of normal values leaves one of a pair over.
    numpy.random.standard_normal(1)
    with Draws(has_device_arrays=False) as drawn:
        expected = values()
    following = values()
    with drawn.repeated():
        assert values() == expected
    numpy.random.seed(1)
    random.seed(1)
    numpy.random.standard_normal(1)
    assert [values(), values()] == [expected, following]


def test_generators_that_were_not_drawn_from_are_left_alone():
    with Draws(has_device_arrays=False) as drawn:
        F.relu(images())
    with drawn.repeated():
        # As another thread may meanwhile.
        first = numpy.random.rand()
    assert numpy.random.rand() != first


class RandomState:
    """What CuPy's random state has: a generator whose place cannot be asked for."""

    destroyed = 0

    def __init__(self, seed):
        self._generator = numpy.random.default_rng(seed)
        self._rk_seed = seed

    def __del__(self):
        RandomState.destroyed += 1

    def rand(self, *shape):
        return self._generator.random(shape, numpy.float32)

    def gumbel(self, size):
        self._rk_seed = self._rk_seed + 1
        return numpy.full(size, self._rk_seed, numpy.float32)


@pytest.fixture
def device(monkeypatch):
    """CuPy's random module, over NumPy; functions take what they draw from it."""
    RandomState.destroyed = 0
    place = SimpleNamespace(state=RandomState(3))
    module = SimpleNamespace(
        RandomState=RandomState,
        get_random_state=lambda: place.state,
        set_random_state=lambda state: setattr(place, "state", state),
    )
    monkeypatch.setattr(draws.cuda, "cupy", SimpleNamespace(random=module))
    monkeypatch.setattr(numpy.random, "rand", lambda *shape: place.state.rand(*shape))
    return place


def test_what_functions_draw_from_a_generator_without_a_state_they_keep(device):
    original = device.state
    with Draws(has_device_arrays=True) as drawn:
        F.dropout(images())
    assert drawn.can_be_repeated
    assert device.state is original
    assert RandomState.destroyed == 0
    assert chainer.get_function_hooks() == {}


@pytest.mark.parametrize(
    "draw", [lambda state: state.rand(3), lambda state: state.gumbel(3)], ids=["rand", "gumbel"]
)
def test_what_others_draw_from_it_cannot_be_repeated(device, draw):
    with Draws(has_device_arrays=True) as drawn:
        F.dropout(images())
        draw(device.state)
    assert not drawn.can_be_repeated


def test_drawing_under_watch_advances_the_generator_as_ever(device):
    expected = RandomState(3)
    with Draws(has_device_arrays=True):
        numpy.testing.assert_array_equal(device.state.rand(4), expected.rand(4))
        numpy.testing.assert_array_equal(device.state.gumbel(4), expected.gumbel(4))
    numpy.testing.assert_array_equal(device.state.rand(4), expected.rand(4))
    numpy.testing.assert_array_equal(device.state.gumbel(4), expected.gumbel(4))


def test_the_generator_comes_back_after_an_exception(device):
    original = device.state
    with pytest.raises(ZeroDivisionError), Draws(has_device_arrays=True):
        _ = 1 / 0
    assert device.state is original


class DeviceArray:
    """Stands for an array that is not NumPy's."""


@pytest.mark.parametrize(("function", "name"), [(Dropout(0.5), "mask"), (RReLU(), "r")])
def test_masks_on_a_device_are_handed_over_and_those_of_numpy_drawn_again(function, name):
    function.apply((images(),))
    assert name not in drawn_by(function)
    mask = DeviceArray()
    setattr(function, name, mask)
    assert name in drawn_by(function)
    new = Dropout(0.5) if name == "mask" else RReLU()
    hand_over({name: mask, "states": None}, new)
    assert getattr(new, name) is mask
    assert not hasattr(new, "states")


def test_a_segment_whose_draws_cannot_be_repeated_is_stored(device, monkeypatch):
    monkeypatch.setattr("swapmem.chainer.recompute.DeviceArray", numpy.ndarray)
    calls = []

    def part(x):
        calls.append(1)
        return F.sin(F.exp(x * device.state.rand(1)))

    x = chainer.Variable(images())
    with recomputing({"part"}):
        loss = F.sum(segment("part", part, x))
    loss.backward()
    assert len(calls) == 1


def test_dropout_on_a_device_is_the_same_when_it_runs_again(device, monkeypatch):
    monkeypatch.setattr("swapmem.chainer.recompute.DeviceArray", numpy.ndarray)
    monkeypatch.setattr(
        "swapmem.chainer.kept.drawn_by",
        lambda function: ("mask",) if isinstance(function, Dropout) else (),
    )
    gradients = []
    for names in ((), {"part"}):
        device.state = RandomState(3)
        x = chainer.Variable(images())
        with recomputing(names):
            y = segment("part", lambda h: F.sin(F.dropout(F.exp(h))), x)
        F.sum(y * y).backward()
        gradients.append(x.grad)
    numpy.testing.assert_array_equal(*gradients)
    # It was drawn from once.
    expected = RandomState(3)
    expected.rand(*x.shape)
    numpy.testing.assert_array_equal(device.state.rand(4), expected.rand(4))
