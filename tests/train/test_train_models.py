"""The networks: size, shapes, and what they do with other image sizes."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest

import swapmem
import swapmem.chainer
from swapmem.chainer import segments
from swapmem.planner.paths import runs
from train.models import ARCHITECTURES, NIN, GoogLeNet, JacintoNet11, ResNet50, parts

ALL = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=list(ARCHITECTURES))


def images(count, insize):
    return np.random.default_rng(insize).standard_normal((count, 3, insize, insize), np.float32)


def labels(count, classes):
    return np.random.default_rng(1).integers(0, classes, count, dtype=np.int32)


@pytest.fixture
def quick_weights(monkeypatch):
    """Spares drawing millions of weights where only shapes matter."""
    monkeypatch.setattr(
        chainer.initializers.HeNormal, "__call__", lambda self, array: array.fill(0.001)
    )


@pytest.mark.usefixtures("quick_weights")
@pytest.mark.parametrize(
    ("name", "count", "without_auxiliaries"),
    [
        ("alex", 60_965_224, 60_965_224),
        ("nin", 7_595_176, 7_595_176),
        ("googlenet", 13_378_280, 6_998_552),
        ("googlenetbn", 17_681_464, 11_281_000),
        ("resnet50", 25_557_032, 25_557_032),
        ("resnext50", 25_028_904, 25_028_904),
        ("resnet10", 5_417_070, 5_417_070),
        ("jacintonet11", 2_873_736, 2_873_736),
    ],
)
def test_a_network_has_the_parameters_that_its_layers_add_up_to(name, count, without_auxiliaries):
    model = ARCHITECTURES[name]()
    auxiliary = sum(p.size for name, p in model.namedparams() if name.startswith("/auxiliary"))
    assert (model.count_params(), model.count_params() - auxiliary) == (count, without_auxiliaries)


@pytest.mark.usefixtures("quick_weights")
def test_resnet50_keeps_the_papers_statistics():
    norms = [link for link in ResNet50().links() if isinstance(link, L.BatchNormalization)]
    assert sum(norm.avg_mean.size + norm.avg_var.size for norm in norms) == 53_120


@pytest.mark.usefixtures("quick_weights")
def test_jacintonet11_has_the_published_weights():
    model = JacintoNet11()
    convolutions = [link for link in model.links() if isinstance(link, L.Convolution2D)]
    assert sum(link.W.size for link in convolutions) == 2_354_784
    assert model.fc1000.W.size == 512_000


@pytest.mark.usefixtures("quick_weights")
@ALL
@pytest.mark.parametrize("more", [1, 34])
def test_every_insize_gives_a_score_per_class(architecture, more):
    insize = architecture.smallest_insize + more
    model = architecture(insize, classes=7)
    assert model.insize == insize
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        assert model.predict(images(2, insize)).shape == (2, 7)


@pytest.mark.usefixtures("quick_weights")
@ALL
def test_the_weights_are_the_same_for_every_insize(architecture):
    shapes = [
        {name: param.shape for name, param in architecture(insize, 5).namedparams()}
        for insize in (architecture.smallest_insize, 1000)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.usefixtures("quick_weights")
@ALL
def test_the_smallest_insize_works_and_one_pixel_less_is_refused_with_the_sizes(architecture):
    least = architecture.smallest_insize
    loss = architecture(least, 4)(images(2, least), labels(2, 4))
    assert np.isfinite(loss.array)
    with pytest.raises(
        ValueError, match=rf"{least} x {least} pixels and every larger.* {least - 1}"
    ):
        architecture(least - 1, 4)


@pytest.mark.usefixtures("quick_weights")
@ALL
def test_the_smallest_insize_is_what_the_geometry_allows(architecture, monkeypatch):
    least = architecture.smallest_insize
    monkeypatch.setattr(architecture, "smallest_insize", 0)
    with pytest.raises((ZeroDivisionError, AssertionError)):
        architecture(least - 1, 4)(images(2, least - 1), labels(2, 4))


#: How many parts each network names, and how many there are within them.
PARTS = {
    "alex": (3, 0), "nin": (3, 0), "googlenet": (13, 0), "googlenetbn": (14, 4),
    "resnet50": (17, 53), "resnext50": (17, 53), "resnet10": (5, 5), "jacintonet11": (6, 8),
}  # fmt: skip


class Parts(chainer.FunctionHook):
    """Notes which part of a network each function belongs to, one path for a run of functions."""

    def __init__(self):
        self.paths = []

    def forward_postprocess(self, function, in_data):
        if self.paths[-1:] != [segments.current()]:
            self.paths.append(segments.current())


def step(architecture):
    """Returns all values after one step, gradients included, what it reports, and its parts."""
    np.random.seed(0)
    insize = max(64, architecture.smallest_insize)
    model = architecture(insize, classes=4)
    reporter = chainer.Reporter()
    reporter.add_observer("main", model)
    observation = {}
    with Parts() as parts, reporter.scope(observation):
        loss = model(images(2, insize), labels(2, 4))
    loss.backward()
    assert float(observation["main/loss"].array) == float(loss.array)
    values = dict(chainer.serializers.npz.serialize(model), loss=loss.array)
    values |= {f"{name} gradient": parameter.grad for name, parameter in model.namedparams()}
    return values, observation, parts.paths


@pytest.fixture(scope="module", params=ARCHITECTURES)
def stepped(request):
    """An architecture and what one step of it gives."""
    architecture = ARCHITECTURES[request.param]
    return architecture, *step(architecture)


def test_the_loss_has_a_gradient_for_every_weight_and_is_reported(stepped):
    _, values, observation, _ = stepped
    gradients = [value for name, value in values.items() if name.endswith("gradient")]
    assert all(np.any(gradient) for gradient in gradients)
    assert observation.keys() == {"main/loss", "main/accuracy"}


def test_the_parts_of_a_network_have_names_of_their_own(stepped):
    architecture, _, _, paths = stepped
    found = [name for name, _, _ in runs(paths)]
    outer = [name for name in found if "/" not in name]
    assert len(set(found)) == len(found)
    assert (len(outer), len(found) - len(outer)) == PARTS[architecture.__name__.lower()]


@pytest.mark.parametrize("is_inner", [False, True], ids=["parts", "parts within"])
def test_the_parts_of_a_network_can_all_be_computed_again_and_no_bit_changes(stepped, is_inner):
    architecture, expected, _, paths = stepped
    parts = {name for name, _, _ in runs(paths) if ("/" in name) == is_inner}
    if not parts:
        pytest.skip("has no parts within others")
    with segments.recomputing(parts):
        values, _, _ = step(architecture)
    for name, value in expected.items():
        np.testing.assert_array_equal(values[name], value, err_msg=name)


def test_done_in_parts_a_network_gives_the_same_within_rounding(stepped, monkeypatch):
    architecture, expected, _, _ = stepped
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    values, _, _ = step(architecture)
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(values[name], value, rtol=0, atol=1e-3 * scale, err_msg=name)


def test_done_in_parts_and_out_of_core_googlenet_touches_what_is_announced(monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "LARGEST_COLUMNS_BYTES", 0)
    expected, _, names = step(GoogLeNet)
    for recomputed in ([], [name for name in names if name is not None]):
        memory = swapmem.Manager("host", "256MiB", tmp_path, paranoid=True)
        with memory, segments.recomputing(recomputed):
            values, _, _ = step(GoogLeNet)
            assert memory.stats()["swap_out_bytes"] > 0
            assert swapmem.chainer.undeclared(memory) == []
            for name, value in expected.items():
                np.testing.assert_array_equal(values[name], value, err_msg=name)


@pytest.mark.usefixtures("quick_weights")
@pytest.mark.parametrize(
    ("make_ours", "make_theirs"),
    [
        (lambda: GoogLeNet().inc3a, lambda: L.Inception(192, 64, 96, 128, 16, 32, 32)),
        (lambda: NIN().mlpconv2, lambda: L.MLPConvolution2D(96, (256, 256, 256), 5, pad=2)),
    ],
    ids=["inception", "mlpconv"],
)
def test_layers_made_here_to_be_done_in_parts_are_chainers(make_ours, make_theirs):
    ours, theirs = make_ours(), make_theirs()
    shapes, expected = ({n: p.shape for n, p in link.namedparams()} for link in (ours, theirs))
    assert shapes == expected
    random = np.random.default_rng(0)
    for parameter in ours.params():
        parameter.array[...] = random.standard_normal(parameter.shape)
    theirs.copyparams(ours)
    channels = next(ours.children()).in_channels
    x = random.standard_normal((2, channels, 9, 9), np.float32)
    np.testing.assert_array_equal(ours(x).array, theirs(x).array)


def test_googlenets_loss_weighs_its_three_classifiers():
    np.random.seed(0)
    model = GoogLeNet(64, classes=4)
    x, t = images(3, 64), labels(3, 4)
    with chainer.using_config("train", False):
        l3, l1, l2 = (float(F.softmax_cross_entropy(y, t).array) for y in model.classify(x))
        assert float(model(x, t).array) == pytest.approx(0.3 * (l1 + l2) + l3, rel=1e-6)


def test_googlenets_auxiliary_pooling_is_the_papers_at_224():
    np.random.seed(0)
    auxiliary = GoogLeNet(224, classes=4).auxiliary1
    x = chainer.Variable(np.random.standard_normal((2, 512, 14, 14)).astype(np.float32))
    h = F.relu(auxiliary.reduce(F.average_pooling_2d(x, 5, stride=3)))
    with chainer.using_config("train", False):
        expected = auxiliary.classifier(F.relu(auxiliary.hidden(h)))
        np.testing.assert_array_equal(auxiliary(x).array, expected.array)


@ALL
def test_the_scores_depend_on_the_whole_image(architecture):
    np.random.seed(0)
    insize = max(96, architecture.smallest_insize)
    model = architecture(insize, classes=4)
    x = images(1, insize)
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        whole = model.predict(x).array
        for corner in (np.s_[..., :8, :8], np.s_[..., -8:, -8:]):
            changed = x.copy()
            changed[corner] += 3
            assert np.any(model.predict(changed).array != whole)


def test_each_architecture_is_known_by_the_name_of_its_class():
    assert [cls.__name__.lower() for cls in ARCHITECTURES.values()] == list(ARCHITECTURES)
