"""Whole numbers: what they can hold, and that the network in them scores as before."""

import numpy as np
import pytest

import train  # noqa: F401  Chainer's shims come before Chainer

import chainer  # isort: skip

from train.jacinto.quantize import Bits, Quantized, merged, rounded
from train.models import ARCHITECTURES


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("signed", [True, False])
def test_a_rounded_value_is_a_near_multiple_of_a_power_of_two_that_fits(seed, signed):
    random = np.random.default_rng(seed)
    bits = int(random.integers(2, 16))
    values = (random.normal(size=200) * 10.0 ** random.integers(-4, 4)).astype("f")
    largest = float(np.abs(values).max())
    found = rounded(values, bits, largest, signed)
    assert found.dtype == np.float32
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    step = 2.0 ** np.ceil(np.log2(largest / top))
    numbers = found / step
    assert np.array_equal(numbers, np.round(numbers))
    assert numbers.min() >= (-top - 1 if signed else 0)
    assert numbers.max() <= top
    wanted = values if signed else np.maximum(values, 0)
    assert np.abs(found - wanted).max() <= step / 2 * (1 + 1e-6)


def test_values_that_do_not_fit_are_cut_and_zeros_stay():
    assert rounded(np.float32([0.3, -0.3, 9.0]), 3, largest=1.0).tolist() == [0.5, -0.5, 1.5]
    assert rounded(np.zeros(3, "f"), 8, largest=0.0).tolist() == [0, 0, 0]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(8, 3, 16, 16)).astype("f")


@pytest.fixture
def model(images) -> chainer.Chain:
    """JacintoNet11 whose normalizations have something to do."""
    np.random.seed(3)
    model = ARCHITECTURES["jacintonet11"](16, 10)
    random = np.random.default_rng(4)
    for _, link in model.namedlinks():
        if isinstance(link, chainer.links.BatchNormalization):
            link.gamma.array[:] = random.uniform(0.5, 2, link.gamma.shape)
            link.beta.array[:] = random.normal(size=link.beta.shape)
            link.avg_mean[:] = random.normal(size=link.avg_mean.shape)
            link.avg_var[:] = random.uniform(0.5, 2, link.avg_var.shape)
        elif isinstance(link, chainer.links.Convolution2D):
            link.b.array[:] = random.normal(size=link.b.shape)
    return model


def scores(model, images) -> np.ndarray:
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        return model.predict(images).array


def test_merged_normalizations_change_no_score(model, images):
    before = scores(model, images)
    np.testing.assert_allclose(scores(merged(model), images), before, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(scores(model, images), before)


def test_many_bits_change_almost_nothing_and_few_change_much(model, images):
    exact = scores(model, images)
    errors = [
        np.abs(Quantized(model, [images], Bits(n, n, n)).predict(images).array - exact).max()
        for n in (20, 12, 4)
    ]
    assert errors[0] < 0.01 * np.abs(exact).max()
    assert errors[0] < errors[1] < errors[2]


def test_between_layers_there_are_no_more_values_than_the_bits_allow(model, images):
    quantized = Quantized(model, [images], Bits(activations=3))
    seen = []

    class Look(chainer.FunctionHook):
        name = "Look"

        def forward_postprocess(self, function, in_data):
            if function.label == "Convolution2DFunction":
                seen.append(len(np.unique(in_data[0])))

    with Look():
        quantized.predict(images)
    assert len(seen) == 10
    assert max(seen) <= 8


def test_weights_and_biases_have_no_more_values_than_their_bits_allow(model, images):
    quantized = Quantized(model, [images], Bits(weights=5, biases=4))
    for _, pair in quantized.model.namedlinks():
        if isinstance(pair, chainer.links.Convolution2D | chainer.links.Linear):
            assert len(np.unique(pair.W.array)) <= 32
            assert len(np.unique(pair.b.array)) <= 16


def test_zeros_stay_zeros(model, images):
    model.res2a_branch2a.conv.W.array[:, ::2] = 0
    quantized = Quantized(model, [images])
    assert not quantized.model.res2a_branch2a.conv.W.array[:, ::2].any()
