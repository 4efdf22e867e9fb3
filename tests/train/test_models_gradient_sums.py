"""Sums of gradients in place, beside Chainer's."""

import contextlib
import itertools
import tracemalloc

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import FunctionNode
from chainer.functions.connection import convolution_2d

import swapmem
import swapmem.chainer
from swapmem.chainer.segments import recomputing, segment
from train.models import convolution, gradient_sums, parts
from train.models.convolution import Convolution2D, Convolution2DFunction
from train.models.gradient_sums import AddsToItsGradients
from train.models.layers import NormalizedConvolution, averaged

GEOMETRIES = [
    {"ksize": 1},
    {"ksize": 3, "pad": 1},
    {"ksize": 1, "stride": 2},
    {"ksize": 3, "pad": 1, "groups": 2},
    {"ksize": 1, "groups": 2, "nobias": True},
]


@pytest.fixture(params=["in parts", "whole"])
def way(request, monkeypatch):
    """Has convolutions done in parts, or by Chainer's functions, summed as on a GPU."""
    if request.param == "in parts":
        monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
        monkeypatch.setattr(parts, "PART_BYTES", 1 << 12)
    else:
        monkeypatch.setattr(convolution, "_writes_out_columns", lambda x: False)
    return request.param


class Sums(chainer.FunctionHook):
    """Notes all operations, and how many sums were taken in place."""

    def __init__(self):
        self.labels = []
        self.in_place = 0

    def forward_preprocess(self, function, in_data):
        self.labels.append(function.label)
        self.in_place += isinstance(function, gradient_sums._AddTo)


@contextlib.contextmanager
def chainers_sums():
    """Has Chainer add up all gradients."""
    default = FunctionNode.backward_accumulate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AddsToItsGradients, "backward_accumulate", default)
        yield


def beside_chainers(run):
    """What a function returns, and what it returns if all sums are Chainer's; sums in place."""
    with Sums() as ours:
        values = run()
    with chainers_sums(), Sums() as theirs:
        expected = run()
    assert theirs.in_place == 0
    assert ours.labels == theirs.labels
    return values, expected, ours.in_place


def assert_same(values, expected):
    """Of arrays: the same bits, in the same order in memory."""
    assert len(values) == len(expected) > 0
    for value, other in zip(values, expected, strict=True):
        assert type(value) is type(other)
        assert (value.shape, value.dtype) == (other.shape, other.dtype)
        assert value.tobytes() == other.tobytes()
        assert value.flags.c_contiguous == other.flags.c_contiguous


def assert_as_with_chainers(run, in_place):
    """What a function returns is the same with Chainer's sums, and so many were taken in place."""
    values, expected, found = beside_chainers(run)
    assert_same(values, expected)
    assert found == in_place


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def link(seed=0, channels=4, out=6, **geometry):
    np.random.seed(seed)
    made = Convolution2D(channels, out, **{"ksize": 1} | geometry)
    if made.b is not None:
        made.b.array[:] = numbers(made.b.shape, seed)
    return made


def differentiate(y, **arguments):
    y.grad = numbers(y.shape, seed=1)
    y.backward(**arguments)


def grads(*variables):
    return [variable.grad for variable in variables]


@pytest.mark.parametrize("readers", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_are_chainers_to_the_last_bit(way, geometry, readers):
    links = [link(seed, **geometry) for seed in range(readers)]
    norm = L.BatchNormalization(4)  # takes sums over the gradient

    def run():
        for each in [*links, norm]:
            each.cleargrads()
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        h = norm(x)
        differentiate(sum(F.sin(each(h)) for each in links), retain_grad=True)
        return grads(x, h, *(p for each in [*links, norm] for p in each.params()))

    values, expected, in_place = beside_chainers(run)
    assert_same(values, expected)
    # What Chainer's functions make of padded or strided images looks into a larger array.
    is_whole = "pad" not in geometry and "stride" not in geometry
    has_place = "groups" not in geometry if way == "in parts" else is_whole
    assert in_place == (readers - 1 if has_place else 0)


def residual(x, convolved):
    """Both the input of the sum and the convolution get the sum's own gradient."""
    h = F.sin(x)
    y = convolved(h) + h
    return F.sin(y), [h, y]


@pytest.mark.usefixtures("way")
def test_a_gradient_of_several_variables_stays_as_it_is():
    convolved = link(out=4)

    def run():
        convolved.cleargrads()
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        result, between = residual(x, convolved)
        differentiate(result, retain_grad=True)
        return grads(x, *between, convolved.W)

    assert_as_with_chainers(run, in_place=1)


@pytest.mark.usefixtures("way")
def test_gradients_that_the_program_holds_stay_as_they_are():
    convolved = link()

    def run():
        convolved.cleargrads()
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        x.grad = numbers(x.shape, seed=2)
        held, seen = x.grad, memoryview(x.grad)
        held_variable = x.grad_var
        differentiate(convolved(x))
        assert x.grad is not held
        assert x.grad_var is not held_variable
        return [held, np.asarray(seen), held_variable.array, *grads(x, convolved.W)]

    values, expected, in_place = beside_chainers(run)
    assert_same(values, expected)
    assert_same(values[:3], [numbers(values[0].shape, seed=2)] * 3)
    assert in_place == 1


@pytest.mark.usefixtures("way")
def test_gradients_given_to_the_pass_stay_as_they_are():
    convolved = link()

    def run():
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        given = chainer.Variable(numbers(x.shape, seed=2))
        y = convolved(x)
        gy = chainer.Variable(numbers(y.shape, seed=1))
        (found,) = chainer.grad([y], [x], [gy], [given])
        return [given.array, gy.array, found.array]

    assert_as_with_chainers(run, in_place=1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("begins_with_zeros", [False, True])
def test_gradients_of_several_passes_add_up_in_new_arrays(begins_with_zeros):
    convolved = link(ksize=3)

    def run():
        convolved.cleargrads()
        if begins_with_zeros:
            for parameter in convolved.params():
                parameter.grad = np.zeros_like(parameter.array)
        seen = []
        for seed in range(3):
            differentiate(convolved(numbers((2, 4, 9, 8), seed)))
            seen += [convolved.W.grad, convolved.b.grad]
        return seen

    values, expected, in_place = beside_chainers(run)
    assert_same(values, expected)
    assert len({id(array) for array in values}) == 6
    assert in_place == (6 if begins_with_zeros else 4)


@pytest.mark.usefixtures("way")
def test_second_gradients_are_chainers_to_the_last_bit():
    links = [link(), link(1, ksize=3, pad=1)]

    def run():
        for each in links:
            each.cleargrads()
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        h = F.sin(x)
        y = sum(F.sin(each(h)) for each in links)
        y.grad = numbers(y.shape, seed=1)
        y.backward(retain_grad=True, enable_double_backprop=True)
        first = [x.grad_var, h.grad_var, *(each.W.grad_var for each in links)]
        result = sum(F.sum(F.sin(gradient)) for gradient in first)
        for variable in (x, h, *(each.W for each in links)):
            variable.grad_var = None
        result.backward()
        return [*(g.array for g in first), *grads(x, *(each.W for each in links))]

    values, expected, _ = beside_chainers(run)
    assert_same(values, expected)


def test_under_double_backprop_chainer_adds(way):
    convolved = link()
    x = chainer.Variable(numbers((2, 4, 9, 8)))
    x.grad = numbers(x.shape)
    y = convolved(x)
    with Sums() as hook:
        differentiate(y, enable_double_backprop=True)
    assert hook.in_place == 0
    assert x.grad_var.creator.label == "_ + _"


@pytest.mark.usefixtures("way")
def test_graphs_that_are_gone_through_once_have_the_same_gradients():
    convolved = link(out=4)

    def run():
        convolved.cleargrads()
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        with swapmem.chainer.BackwardOnce():
            result, _ = residual(x, convolved)
            differentiate(result)
        return grads(x, convolved.W, convolved.b)

    assert_as_with_chainers(run, in_place=1)


@pytest.mark.usefixtures("way")
def test_parts_of_a_model_that_are_computed_again_have_the_same_gradients():
    convolved = link(out=4)

    def run():
        convolved.cleargrads()
        x = chainer.Variable(numbers((2, 4, 32, 32)))
        with recomputing({"block"}):
            result = segment("block", lambda x: residual(x, convolved)[0], x)
            differentiate(result)
        return grads(x, convolved.W, convolved.b)

    assert_as_with_chainers(run, in_place=1)


def test_gradients_that_are_kept_apart_are_added_up_as_by_chainer(way):
    convolved = link(out=4)

    def run():
        found = []
        with chainer.using_config("lazy_grad_sum", True):
            for readers in itertools.permutations((convolved, F.sin, F.cos)):
                x = chainer.Variable(numbers((2, 4, 9, 8)))
                h = F.sin(x)
                differentiate(sum(F.sin(reader(h)) for reader in readers))
                found.append(x.grad)
        return found

    with chainers_sums():
        expected = run()
    if way == "in parts":
        np.testing.assert_allclose(run(), expected, rtol=1e-4, atol=1e-4)
    else:
        assert_same(run(), expected)


class Special(np.ndarray):
    """An array that is more than an array."""


def on_another_device(array):
    variable = chainer.Variable(array)
    variable._device = object()
    return variable


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "make",
    [
        lambda array: np.asfortranarray(array),
        lambda array: array.astype(np.float64),
        lambda array: np.stack([array, array]),
        lambda array: array.view(Special),
        on_another_device,
    ],
    ids=["order", "type", "shape", "kind", "device"],
)
def test_gradients_that_are_not_alike_are_added_by_chainer(make):
    convolved = link()

    def run():
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        given = chainer.as_variable(make(numbers(x.shape, seed=2)))
        y = convolved(x)
        gy = chainer.Variable(numbers(y.shape, seed=1))
        with chainer.using_config("type_check", False):
            (found,) = chainer.grad([y], [x], [gy], [given])
        return [found.array]

    assert_as_with_chainers(run, in_place=0)


def test_an_array_that_is_image_and_weights_gets_all_its_gradients():
    def run():
        x = chainer.Variable(numbers((4, 4, 3, 3)))
        h = F.sin(x)
        (y,) = Convolution2DFunction(pad=1).apply((h, h))
        differentiate(y * F.cos(h))
        return grads(x)

    with chainers_sums():
        expected = run()
    assert_same(run(), expected)


@pytest.mark.usefixtures("way")
def test_gradients_that_do_not_go_together_are_refused_as_by_chainer():
    convolved = link()

    def run():
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        given = chainer.Variable(np.zeros(x.shape))
        y = convolved(x)
        with pytest.raises(chainer.utils.type_check.InvalidType) as caught:
            chainer.grad([y], [x], [y], [given])
        return str(caught.value)

    with chainers_sums():
        expected = run()
    assert run() == expected


@pytest.mark.usefixtures("way")
def test_debug_mode_finds_a_sum_that_is_no_number_as_with_chainer():
    convolved = link()
    convolved.W.array[...] = 1

    def run():
        x = chainer.Variable(numbers((2, 4, 9, 8)))
        with chainer.using_config("debug", True):
            y = convolved(x)
            x.grad = np.full(x.shape, np.inf, np.float32)
            y.grad = np.full(y.shape, -3e38, np.float32)
            with pytest.raises(RuntimeError, match="NaN is detected") as caught:
                y.backward()
        return str(caught.value).splitlines()[0]

    with np.errstate(over="ignore", invalid="ignore"):
        with chainers_sums():
            expected = run()
        assert run() == expected


def function_of(y):
    return type(y.creator)


def test_where_columns_are_written_out_chainers_own_function_runs():
    chainers = convolution_2d.Convolution2DFunction
    assert function_of(link(ksize=3)(numbers((1, 4, 9, 8)))) is chainers
    assert function_of(link(groups=2)(numbers((1, 4, 9, 8)))) is chainers


@pytest.mark.parametrize("has_cudnn", [False, True])
def test_on_a_gpu_ours_runs_where_cudnn_does(monkeypatch, has_cudnn):
    monkeypatch.setattr(convolution, "DeviceArray", np.ndarray)
    monkeypatch.setattr(chainer, "should_use_cudnn", lambda level: has_cudnn)
    y = link(ksize=3)(numbers((1, 4, 9, 8)))
    assert (function_of(y) is Convolution2DFunction) == has_cudnn
    assert y.creator.label == "Convolution2DFunction"


def bottleneck():
    """A residual block without normalizations, which need more than its convolutions."""
    down, up = link(channels=32, out=8, nobias=True), link(channels=8, out=32, nobias=True)
    return lambda x: up(F.relu(down(x))) + x


@pytest.fixture
def in_small_parts(monkeypatch):
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 14)


SHAPE = (1, 32, 128, 128)
INPUT_BYTES = 4 * 32 * 128 * 128


@pytest.mark.usefixtures("in_small_parts")
def test_a_residual_blocks_backward_needs_one_array_less_than_with_chainers_sums():
    def peak_bytes():
        block, x = bottleneck(), chainer.Variable(numbers(SHAPE))
        with swapmem.chainer.BackwardOnce():
            y = block(x)
            y.grad = numbers(SHAPE, seed=1)
            tracemalloc.start()
            try:
                y.backward()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    with chainers_sums():
        chainers_bytes = peak_bytes()
    assert chainers_bytes - peak_bytes() == pytest.approx(INPUT_BYTES, rel=0.05)


@pytest.mark.usefixtures("in_small_parts")
def test_the_op_that_adds_needs_one_array_less_than_with_chainers_sums():
    def op_bytes():
        with swapmem.Manager(device="host", device_memory="1GiB") as memory:
            block, x = bottleneck(), chainer.Variable(numbers(SHAPE))
            differentiate(block(x))
            peaks = {op["op"]: op["peak_bytes"] for op in memory.stats()["by_op"]}
        return peaks["ConvolutionInParts backward"]

    with chainers_sums():
        chainers_bytes = op_bytes()
    assert chainers_bytes - op_bytes() == pytest.approx(INPUT_BYTES, rel=0.1)


class Residual(chainer.Chain):
    """A small residual network of the layers that the large ones are made of."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first = NormalizedConvolution(3, 32, 3, pad=1)
            self.down = NormalizedConvolution(32, 8, 1)
            self.middle = NormalizedConvolution(8, 8, 3, pad=1)
            self.up = NormalizedConvolution(8, 32, 1)
            self.classifier = L.Linear(32, 5)

    def forward(self, x, t):
        h = F.relu(self.first(x))
        h = F.relu(self.up(F.relu(self.middle(F.relu(self.down(h))))) + h)
        return F.softmax_cross_entropy(self.classifier(averaged(h)), t)


@pytest.mark.usefixtures("way")
def test_a_network_trains_to_the_same_weights_and_every_touch_is_announced(tmp_path):
    def weights():
        np.random.seed(0)
        model = Residual()
        optimizer = chainer.optimizers.MomentumSGD(0.1).setup(model)
        for seed in range(4):
            optimizer.update(model, numbers((4, 3, 32, 32), seed), np.arange(4, dtype=np.int32))
        return [parameter.array for _, parameter in sorted(model.namedparams())]

    with chainers_sums():
        expected = weights()
    memory = swapmem.Manager("host", "64MiB", tmp_path, paranoid=True)
    with memory, Sums() as hook:
        assert_same(weights(), expected)
    assert hook.in_place == 4
    assert swapmem.chainer.undeclared(memory) == []
    assert memory.stats()["swap_out_bytes"] > 0
