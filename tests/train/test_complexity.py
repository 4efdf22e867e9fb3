"""What the networks cost: products, memory, and the table of them."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest

import swapmem
from train.complexity import main, measure
from train.macs import MacHook
from train.models import ARCHITECTURES


@pytest.fixture(autouse=True)
def quick_weights(monkeypatch):
    """Spares drawing millions of weights, whose values do not matter here."""
    monkeypatch.setattr(
        chainer.initializers.HeNormal, "__call__", lambda self, array: array.fill(0.001)
    )


def layer_macs(name, insize=None, count=1):
    architecture = ARCHITECTURES[name]
    insize = insize or architecture.default_insize
    model = architecture(insize)
    x = np.zeros((count, 3, insize, insize), np.float32)
    with chainer.using_config("train", False), chainer.no_backprop_mode(), MacHook(model) as hook:
        model.predict(x)
    return hook.macs


def test_jacintonet11_does_the_published_multiplications_in_every_layer():
    macs = layer_macs("jacintonet11")
    assert {name.split("/")[1]: round(count / 1e6, 2) for name, count in macs.items()} == {
        "conv1a": 30.11, "conv1b": 28.90,
        "res2a_branch2a": 57.80, "res2a_branch2b": 28.90,
        "res3a_branch2a": 57.80, "res3a_branch2b": 28.90,
        "res4a_branch2a": 57.80, "res4a_branch2b": 28.90,
        "res5a_branch2a": 57.80, "res5a_branch2b": 28.90,
        "fc1000": 0.51,
    }  # fmt: skip
    assert round(sum(macs.values()) / 1e9, 4) == 0.4063


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("alex", 0.7244),
        ("nin", 1.1060),
        ("googlenet", 1.5827),
        ("googlenetbn", 2.0198),
        ("resnet50", 3.8580),
        ("resnext50", 4.2305),
        ("resnet10", 0.8892),
    ],
)
def test_the_multiplications_of_a_network_are_those_of_the_documents_table(name, gmacs):
    macs = layer_macs(name)
    total = sum(count for weight, count in macs.items() if not weight.startswith("/auxiliary"))
    assert round(total / 1e9, 4) == gmacs
    if name == "alex":  # published without the first linear layer
        assert round((total - macs["/fc6/W"]) / 1e9, 3) == 0.687


def test_four_times_the_pixels_are_four_times_the_multiplications_of_convolutions():
    small, large = layer_macs("jacintonet11", 64), layer_macs("jacintonet11", 128)
    assert large.pop("/fc1000/W") == small.pop("/fc1000/W")
    assert large == {name: 4 * count for name, count in small.items()}


@pytest.mark.parametrize("seed", range(20))
def test_every_product_of_a_weight_and_an_input_counts(seed):
    random = np.random.default_rng(seed)
    groups, stride, dilate = (int(random.integers(1, 4)) for _ in range(3))
    kernel = tuple(random.integers(1, 4, 2).tolist())
    model = chainer.Chain()
    with model.init_scope():
        model.conv = L.Convolution2D(
            2 * groups, 3 * groups, kernel, stride, dilate=dilate, groups=groups, initialW=1
        )
        model.linear = L.Linear(None, 5, initialW=1)
    x = np.ones((2, 2 * groups, *random.integers(10, 14, 2)), np.float32)
    model.linear(model.conv(x))
    with MacHook(model) as hook:
        y = model.conv(x)
        model.linear(np.ones_like(y.array))
    # Where all weights and inputs are 1 a result is how many products it is the sum of.
    assert hook.macs == {"/conv/W": F.sum(y).array, "/linear/W": 5 * y.size}


def test_classifiers_on_the_way_are_parameters_but_their_multiplications_do_not_count():
    complexity = measure(ARCHITECTURES["googlenet"], 64)
    on_the_way = [name for name in complexity.layer_macs if name.startswith("/auxiliary")]
    assert len(on_the_way) == 6
    counted = sum(complexity.layer_macs.values()) - complexity.macs
    assert counted == sum(complexity.layer_macs[name] for name in on_the_way) > 0
    assert complexity.parameters == 13_378_280


class Known(chainer.Chain):
    """A network whose functions leave what one can count on one's fingers."""

    def __init__(self, insize, classes):
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(3, 16, 1)

    def forward(self, x, t):
        h = F.relu(self.conv(x))  # keeps its result alone
        h = h * h  # keeps what it multiplies
        return F.sum(h)


def test_activations_are_what_the_forward_pass_leaves():
    for count in (1, 3):
        complexity = measure(Known, 64, batch_size=count)
        assert complexity.activation_bytes == count * 16 * 64 * 64 * 4
        assert complexity.macs == 3 * 16 * 64 * 64


def test_the_op_minimum_is_a_budget_that_will_do_and_changes_no_figure(tmp_path):
    jacinto = ARCHITECTURES["jacintonet11"]
    ample = measure(jacinto, 96, batch_size=2)
    budget_bytes = ample.op_minimum_bytes
    assert measure(jacinto, 96, 1000, 2, budget_bytes, str(tmp_path)) == ample
    with pytest.raises(swapmem.OutOfMemory):
        measure(jacinto, 96, 1000, 2, budget_bytes * 9 // 10, str(tmp_path))


def row(text, name):
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
    return line.split()


def test_the_table_shows_what_is_counted_beside_what_was_published(capsys):
    assert main(["--arch", "jacintonet11"]) == 0
    output = capsys.readouterr().out
    cells = row(output, "jacintonet11")
    assert cells[:5] == ["jacintonet11", "224", "0.4063", "0.410", "2,873,736"]
    assert cells[-2:] == ["60.91", "83.05"]
    assert "products of a weight and an input value" in output
    assert "batches of 1." in output


@pytest.mark.parametrize(
    "options", [["--insize", "128"], ["--classes", "10"]], ids=["insize", "classes"]
)
def test_nothing_published_is_shown_beside_another_insize_or_number_of_classes(capsys, options):
    assert main(["--arch", "jacintonet11", *options]) == 0
    cells = row(capsys.readouterr().out, "jacintonet11")
    assert (cells[3], cells[-2:]) == ("-", ["-", "-"])


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--insize", "64"], 2, "alex: AlexNet takes images of 199 x 199 pixels and every larger"),
        (["--insize", "199", "--device-memory", "1MiB"], 1, "alex: out of device memory"),
        (["--device-memory", "a lot"], 2, "alex: not a size: 'a lot'"),
        (["--spill-dir", "absent"], 2, "alex: [Errno 2] file store in absent: cannot make a file"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(capsys, options, status, message):
    assert main(["--arch", "alex", *options]) == status
    error = capsys.readouterr().err
    assert error.startswith(f"complexity: error: {message}")
    assert error.count("\n") == 1


def test_an_unknown_architecture_is_refused_with_the_nearest_name(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--arch", "jacinto"])
    assert caught.value.code == 2
    assert "did you mean jacintonet11?" in capsys.readouterr().err
