"""Our convolutions beside Chainer's."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest

import swapmem
import swapmem.chainer
from swapmem.chainer.segments import recomputing, segment
from train.macs import MacHook
from train.models import parts
from train.models.convolution import Convolution2D

GEOMETRIES = [
    {"ksize": 3},
    {"ksize": 3, "pad": 1},
    {"ksize": 7, "stride": 2, "pad": 3},
    {"ksize": 1},
    {"ksize": 1, "stride": 2},
    {"ksize": 2, "stride": 3},
    {"ksize": 2, "pad": 5},  # windows that see nothing of the image
    {"ksize": 3, "pad": 2, "dilate": 2},
    {"ksize": (3, 1), "stride": (1, 2), "pad": (2, 0), "dilate": (2, 1)},
    {"ksize": 3, "nobias": True},
]


@pytest.fixture
def in_parts(monkeypatch):
    """Has every convolution done in parts, a row at a time."""
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 1)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def pair(**arguments):
    """A link of ours and one of Chainer's with the same weights."""
    links = []
    for kind in (Convolution2D, L.Convolution2D):
        np.random.seed(0)
        links.append(kind(**{"in_channels": 4, "out_channels": 6} | arguments))
        if links[-1].b is not None:
            links[-1].b.array[:] = numbers(links[-1].b.shape)
    return links


def gradients(link, x):
    return [x.grad, *(parameter.grad for _, parameter in sorted(link.namedparams()))]


def both_ways(link, x):
    x = chainer.Variable(x)
    y = link(x)
    y.grad = numbers(y.shape, seed=1)
    y.backward()
    return [y.array, *gradients(link, x)]


def both_ways_twice(link, x):
    """A result that depends on all first gradients, and its gradients."""
    x = chainer.Variable(x)
    y = link(x)
    gy = chainer.Variable(numbers(y.shape, seed=1))
    first = chainer.grad([y], [x, link.W], [gy], enable_double_backprop=True)
    result = sum(F.sum(F.sin(gradient)) for gradient in first)
    result.backward()
    return [result.array, gy.grad, x.grad, link.W.grad]


def assert_close(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("part_bytes", [1, 1 << 13, 1 << 20])
@pytest.mark.parametrize("shape", [(1, 4, 7, 7), (2, 4, 19, 12), (3, 4, 8, 21)])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_both_ways_are_as_chainers(geometry, shape, part_bytes, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", part_bytes)
    ours, theirs = pair(**geometry)
    x = numbers(shape)
    assert_close(both_ways(ours, x), both_ways(theirs, x))


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_can_be_differentiated_as_chainers(geometry):
    ours, theirs = pair(**geometry)
    x = numbers((2, 4, 9, 8))
    assert_close(both_ways_twice(ours, x), both_ways_twice(theirs, x))


@pytest.mark.usefixtures("in_parts")
def test_arrays_in_another_order_are_taken_too():
    ours, theirs = pair(ksize=3)
    x = np.moveaxis(numbers((2, 6, 8, 4)), 3, 1)
    assert_close(both_ways(ours, x), both_ways(theirs, x))


@pytest.mark.usefixtures("in_parts")
def test_what_is_no_image_is_refused_as_by_chainer():
    for link in pair(ksize=3):
        with pytest.raises(chainer.utils.type_check.InvalidType):
            link(numbers((4, 9, 8)))


def label(y):
    return y.creator.label


def test_up_to_a_number_of_columns_chainers_own_runs(monkeypatch):
    link, theirs = pair(ksize=3, stride=2)
    x = numbers((2, 4, 9, 8))
    columns_bytes = 2 * 4 * (3 * 3) * (4 * 3) * 4
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", columns_bytes)
    assert label(link(x)) == "Convolution2DFunction"
    for our, their in zip(both_ways(link, x), both_ways(theirs, x), strict=True):
        np.testing.assert_array_equal(our, their)
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", columns_bytes - 1)
    assert label(link(x)) == "ConvolutionInParts"


@pytest.mark.usefixtures("in_parts")
def test_convolutions_in_groups_are_chainers():
    link, _ = pair(ksize=3, groups=2)
    assert label(link(numbers((2, 4, 9, 8)))) == "Convolution2DFunction"


@pytest.mark.usefixtures("in_parts")
def test_every_product_of_a_weight_and_an_input_counts():
    counts = []
    for link in pair(ksize=3, stride=2, pad=1):
        model = chainer.Sequential(link)
        with MacHook(model) as hook:
            model(numbers((2, 4, 9, 8)))
        counts.append(hook.macs)
    assert counts[0] == counts[1]
    assert counts[0]["/0/W"] > 0


class Names(chainer.FunctionHook):
    """Notes what runs."""

    def __init__(self):
        self.names = []

    def forward_postprocess(self, function, in_data):
        self.names.append(function.label)


@pytest.mark.usefixtures("in_parts")
def test_images_get_no_gradient():
    link, _ = pair(ksize=3)
    with Names() as hook:
        F.sum(link(numbers((1, 4, 9, 8)))).backward()
    assert "WeightGradientInParts" in hook.names
    assert "InputGradientInParts" not in hook.names


@pytest.mark.parametrize("out_channels", [8, 64])
def test_an_op_needs_little_beside_its_arguments_and_results(out_channels, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 19)
    link, _ = pair(in_channels=16, out_channels=out_channels, ksize=3, pad=1)
    with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        x = numbers((2, 16, 128, 128))
        y, *_ = both_ways(link, x)
        largest_bytes = memory.stats()["largest_op_bytes"]
    # Backward has the gradients of both. A part and its sums; what they are taken from and go to.
    assert largest_bytes <= 2 * x.nbytes + y.nbytes + 4 * parts.PART_BYTES


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("run", [both_ways, both_ways_twice])
def test_every_touch_is_announced(run, tmp_path):
    link, _ = pair(ksize=3, pad=1)
    with swapmem.Manager("host", "64MiB", tmp_path, paranoid=True) as memory:
        run(link, numbers((2, 4, 128, 128)))
    assert swapmem.chainer.undeclared(memory) == []
    assert memory.stats()["swap_out_bytes"] > 0


@pytest.mark.usefixtures("in_parts")
def test_what_is_kept_can_be_computed_again():
    def run():
        link, _ = pair(ksize=3)
        x = chainer.Variable(numbers((2, 4, 32, 32)))
        y = segment("convolved", lambda x: F.sin(link(F.cos(x))), x)
        # What the convolution was applied to.
        kept = y.creator.inputs[0].creator.inputs[0].data
        y.grad = numbers(y.shape, seed=1)
        y.backward()
        return [y.array, *gradients(link, x)], kept

    expected, kept = run()
    assert kept is not None
    with recomputing({"convolved"}):
        values, kept = run()
    assert kept is None
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
