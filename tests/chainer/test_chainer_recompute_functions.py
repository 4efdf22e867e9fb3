"""Links and functions that need care when they run again."""

from __future__ import annotations

import chainer
import numpy
import pytest
from chainer.link_hooks.spectral_normalization import SpectralNormalization
from segmented import Runs, images

from swapmem.chainer.segments import recomputing, segment

F = chainer.functions
L = chainer.links


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.BatchNormalization(6),
        lambda: L.BatchRenormalization(6, rmax=2, dmax=1),
        lambda: L.DecorrelatedBatchNormalization(6, groups=2),
        lambda: L.Convolution2D(6, 6, 1).add_hook(SpectralNormalization()),
        lambda: L.SimplifiedDropconnect(6 * 5 * 5, 6),
        lambda: L.GroupNormalization(2),
    ],
    ids=[
        "batch normalization",
        "batch renormalization",
        "decorrelated batch normalization",
        "spectral normalization",
        "simplified dropconnect",
        "group normalization",
    ],
)
def test_links_that_keep_statistics_keep_the_same(make):
    outcomes = []
    for names in ((), {"part"}):
        numpy.random.seed(0)
        link = make()
        found = []
        for seed in range(3):
            x = chainer.Variable(images(seed))
            with recomputing(names):
                y = segment("part", lambda h: F.sin(link(F.exp(h))), x)  # noqa: B023
            link.cleargrads()
            F.sum(y * y).backward()
            found += [x.grad, *(p.grad for p in link.params())]
            found += [numpy.asarray(getattr(link, name)) for name in link._persistent]
        outcomes.append([array.tobytes() for array in found])
    assert outcomes[0] == outcomes[1]


class Nesting(chainer.FunctionNode):
    """Applies other functions, and keeps an array only after that."""

    def forward(self, inputs):
        with chainer.no_backprop_mode():
            y = F.exp(F.sin(inputs[0])).array
        self.slope = numpy.cos(inputs[0]) * y
        return (y,)

    def backward(self, indexes, grad_outputs):
        return (grad_outputs[0] * self.slope,)


def test_a_function_that_applies_others_is_run_to_its_end():
    x = chainer.Variable(images())
    gradients = []
    for names in ((), {"part"}):
        x.cleargrad()
        with recomputing(names):
            y = segment("part", lambda h: F.sin(Nesting().apply((F.exp(h),))[0]), x)
        with Runs() as runs:
            F.sum(y * y).backward()
        gradients.append(x.grad)
    numpy.testing.assert_array_equal(*gradients)
    assert [label for name, label in runs.labels if name] == ["exp", "sin", "exp", "Nesting"]


def test_a_segment_that_chainer_recomputes_is_not_recomputed_within_that():
    x = chainer.Variable(images())
    runs = []

    def part(h):
        runs.append(chainer.config.in_recomputing)
        return F.sin(F.exp(h))

    with recomputing({"part"}):
        y = F.sum(F.forget(lambda h: segment("part", part, h), x))
        y.backward()
    assert runs == [False, True]


def test_a_segment_that_forgets_a_part_of_itself_computes_the_same():
    x = chainer.Variable(images())
    gradients = []
    for names in ((), {"part"}):
        x.cleargrad()
        with recomputing(names):
            y = segment("part", lambda h: F.tanh(F.forget(lambda g: F.sin(g * g), F.exp(h))), x)
        F.sum(y * y).backward()
        gradients.append(x.grad)
    numpy.testing.assert_array_equal(*gradients)


def test_calls_without_a_graph_are_plain_calls():
    def part(x):
        assert chainer.get_function_hooks() == {}
        return F.sin(F.exp(x))

    with recomputing({"part"}), chainer.no_backprop_mode():
        assert segment("part", part, chainer.Variable(images())).creator is None


class OldStyle(chainer.Function):
    """An old-style function that keeps an array of its own and its output."""

    def forward(self, inputs):
        (x,) = inputs
        self.retain_inputs(())
        self.retain_outputs((0,))
        self.weights = numpy.cos(x)
        return (numpy.sin(x),)

    def backward(self, inputs, grad_outputs):
        (y,) = self.output_data
        return (grad_outputs[0] * self.weights + y * 0,)


def test_old_style_functions_are_recomputed():
    x = chainer.Variable(images())
    gradients = []
    for names in ((), {"part"}):
        with recomputing(names):
            y = segment("part", lambda h: OldStyle()(OldStyle()(h)), x)
        x.cleargrad()
        with Runs() as runs:
            F.sum(y * y).backward()
        gradients.append(x.grad)
    numpy.testing.assert_array_equal(*gradients)
    assert [label for name, label in runs.labels if name] == ["OldStyle", "OldStyle"]
