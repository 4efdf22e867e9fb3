"""Our maximum pooling beside Chainer's."""

import chainer
import chainer.functions as F
import numpy as np
import pytest

import swapmem
import swapmem.chainer
from swapmem.chainer.segments import recomputing, segment
from train.models import parts
from train.models.parts import Windows
from train.models.pooling import max_pooling_2d


@pytest.fixture
def in_parts(monkeypatch):
    """Has every pooling done in parts, a channel at a time."""
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 1)


def numbers(shape, seed=0):
    """Few enough different numbers for windows that have their largest several times."""
    return np.random.default_rng(seed).integers(-4, 4, shape).astype(np.float32)


def both_ways(function, x, *arguments):
    variable = chainer.Variable(x)
    y = function(variable, *arguments)
    y.grad = numbers(y.shape, seed=1).astype(y.dtype)
    y.backward()
    return y.array, variable.grad


def both_ways_twice(function, x, *arguments):
    """The gradients of a gradient."""
    x, gy = chainer.Variable(x), chainer.Variable(both_ways(function, x, *arguments)[0])
    (gx,) = chainer.grad([function(x, *arguments)], [x], [gy], enable_double_backprop=True)
    gx.grad = numbers(gx.shape, seed=2)
    gx.backward()
    return (gy.grad,)


def assert_equal(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype
        np.testing.assert_array_equal(our, their)


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("part_bytes", [1, 1 << 10, 1 << 20])
@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (2, 5, 11, 8), (3, 2, 16, 17)])
@pytest.mark.parametrize(
    "arguments",
    [
        (3, 2),
        (3, 1, 1),
        (2,),
        (3, 2, 1, False),
        (2, 3),
        (3, 3, 2),
        (1, 2),
        ((1, 3), (2, 1), (0, 2)),
    ],
)
def test_both_ways_are_chainers_to_the_last_bit(shape, arguments, part_bytes, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", part_bytes)
    x = numbers(shape)
    ours = both_ways(max_pooling_2d, x, *arguments)
    assert_equal(ours, both_ways(F.max_pooling_2d, x, *arguments))


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_taken_too(dtype):
    x = numbers((2, 3, 8, 8)).astype(dtype)
    assert_equal(both_ways(max_pooling_2d, x, 3, 2), both_ways(F.max_pooling_2d, x, 3, 2))


@pytest.mark.usefixtures("in_parts")
def test_a_gradient_can_be_differentiated_as_chainers():
    x = numbers((2, 3, 8, 8))
    ours = both_ways_twice(max_pooling_2d, x, 3, 2)
    assert_equal(ours, both_ways_twice(F.max_pooling_2d, x, 3, 2))


@pytest.mark.usefixtures("in_parts")
def test_what_is_no_number_is_seen_in_the_result():
    x = numbers((1, 1, 6, 6))
    x[0, 0, 2, 3] = np.nan
    assert_equal([max_pooling_2d(x, 3, 2).array], [F.max_pooling_2d(x, 3, 2).array])


@pytest.mark.usefixtures("in_parts")
def test_arrays_in_another_order_are_taken_too():
    x = np.moveaxis(numbers((2, 6, 8, 4)), 1, 3)
    assert_equal(both_ways(max_pooling_2d, x, 3, 2), both_ways(F.max_pooling_2d, x, 3, 2))


def test_up_to_a_number_of_columns_chainers_own_runs(monkeypatch):
    x = numbers((2, 3, 9, 8))
    windows = 2 * 3 * 4 * 4  # the last one across is not whole
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", windows * 9 * 4)
    assert max_pooling_2d(x, 3, 2).creator_node.label == "MaxPoolingND"
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", windows * 9 * 4 - 1)
    assert max_pooling_2d(x, 3, 2).creator_node.label == "MaxPoolingInParts"


def test_what_is_not_numpys_is_left_to_chainer():
    class OnDevice:
        shape = (64, 64, 4096, 4096)

    windows = Windows((3, 3), (2, 2), (0, 0), cover_all=True)
    assert not windows.need_parts(OnDevice())


@pytest.mark.usefixtures("in_parts")
def test_a_byte_for_each_result_is_kept():
    y = max_pooling_2d(numbers((2, 3, 9, 9)), 3, 2)
    assert y.creator.indexes.nbytes == y.size
    assert y.creator.get_retained_inputs() == y.creator.get_retained_outputs() == ()
    wide = max_pooling_2d(numbers((2, 3, 20, 20)), 17)
    assert wide.creator.indexes.nbytes == 2 * wide.size


def test_an_op_needs_little_beside_its_arguments_and_results(monkeypatch):
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 18)
    with swapmem.Manager(device="host", device_memory="1GiB") as memory:
        x = numbers((4, 96, 64, 64))
        y, _ = both_ways(max_pooling_2d, x, 3, 1, 1)
        largest_bytes = memory.stats()["largest_op_bytes"]
    # Padded parts of both, masks, and what is chosen by them.
    assert largest_bytes <= x.nbytes + y.nbytes + y.size + 5 * parts.PART_BYTES


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("run", [both_ways, both_ways_twice])
def test_every_touch_is_announced(run, tmp_path):
    with swapmem.Manager("host", "64MiB", tmp_path, paranoid=True) as memory:
        run(max_pooling_2d, numbers((2, 8, 128, 128)), 3, 2)
    assert swapmem.chainer.undeclared(memory) == []
    assert memory.stats()["swap_out_bytes"] > 0


@pytest.mark.usefixtures("in_parts")
def test_what_is_kept_can_be_computed_again():
    def pooled(x):
        return segment("pooled", lambda x: F.sin(max_pooling_2d(F.cos(x), 3, 2)), x)

    x = numbers((2, 3, 32, 32))
    expected = both_ways(pooled, x)
    with recomputing({"pooled"}):
        y = pooled(chainer.Variable(x))
        assert y.creator.inputs[0].creator.indexes is None
        assert_equal(both_ways(pooled, x), expected)
