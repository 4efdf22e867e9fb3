"""Our local response normalization beside Chainer's."""

import chainer
import chainer.functions as F
import numpy as np
import pytest

import swapmem
import swapmem.chainer
from train.models import local_response
from train.models.local_response import local_response_normalization


def both_ways(function, x, gy, **arguments):
    variable = chainer.Variable(x)
    y = function(variable, **arguments)
    y.grad = gy
    y.backward()
    return y.array, variable.grad


def arrays(shape, seed=0):
    random = np.random.default_rng(seed)
    return [10 * random.standard_normal(shape, dtype=np.float32) for _ in range(2)]


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (1, 1, 1, 1), (3, 2, 4, 4), (1, 64, 40, 40)])
@pytest.mark.parametrize(
    "arguments", [{}, {"n": 3}, {"n": 1}, {"k": 1.0, "alpha": 0.1, "beta": 0.5}]
)
@pytest.mark.parametrize("part", [1, 100, 1 << 15])
def test_both_ways_are_as_chainers(shape, arguments, part, monkeypatch):
    monkeypatch.setattr(local_response, "_PART", part)
    x, gy = arrays(shape)
    ours = both_ways(local_response_normalization, x, gy, **arguments)
    theirs = both_ways(F.local_response_normalization, x, gy, **arguments)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-6)


def test_arrays_in_another_order_are_taken_too():
    x, gy = (np.moveaxis(array, 1, 3) for array in arrays((2, 6, 8, 4)))
    ours = both_ways(local_response_normalization, x, gy)
    theirs = both_ways(F.local_response_normalization, x, gy)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-6)


def test_no_op_needs_more_than_its_arguments_and_its_result():
    with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        x, gy = arrays((4, 96, 64, 64))
        both_ways(local_response_normalization, x, gy)
        largest_bytes = memory.stats()["largest_op_bytes"]
    # Backward has two arguments.
    assert largest_bytes <= 3.1 * x.nbytes
