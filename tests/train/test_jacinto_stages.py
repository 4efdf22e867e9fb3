"""All four stages as one command, on images that a few updates can learn."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train import snapshots
from train.jacinto import __main__ as command
from train.jacinto import arguments
from train.jacinto.pruning import sparsity, zero_share
from train.models import ARCHITECTURES

SIDE = 8
ITERATIONS = 16


def write_data(directory: Path) -> list[str]:
    """Writes images of two classes, bright on the left and bright on the right."""
    random = np.random.default_rng(0)
    for name, count in (("train", 24), ("val", 12)):
        rows = []
        for number in range(count):
            pixels = random.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[: SIDE // 2] += np.uint8(120 * (number % 2))
            Image.fromarray(pixels).save(directory / f"{name}{number}.png")
            rows.append(f"{name}{number}.png {number % 2}\n")
        (directory / f"{name}.txt").write_text("".join(rows))
    np.save(directory / "mean.npy", np.full((3, SIDE, SIDE), 120, np.float32))
    lists = [str(directory / "train.txt"), str(directory / "val.txt")]
    return [*lists, f"--root={directory}", f"--mean={directory / 'mean.npy'}", "--classes=2"]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of a run that is over."""
    directory = tmp_path_factory.mktemp("jacinto")
    options = [*write_data(directory), f"--out={directory / 'out'}", f"--insize={SIDE}", "-j0"]
    options += [f"--iterations={ITERATIONS}", "--batch=4", "--batchsize=2", "--rate=0.02"]
    assert command.main(options) == 0
    return options


@pytest.fixture
def out(options: list[str]) -> Path:
    return Path(next(x for x in options if x.startswith("--out=")).removeprefix("--out="))


@pytest.mark.slow
def test_the_summary_tells_accuracy_and_zeros_of_every_stage_and_layer(out):
    summary = json.loads((out / "summary.json").read_text())
    names = [stage["name"] for stage in summary["stages"]]
    assert names == ["initial", "sparse", "quantized"]
    for stage in summary["stages"]:
        assert stage["accuracy"]["images"] == 12
        assert stage["accuracy"]["top5"] == 1  # of two classes
        assert len(stage["layers"]) == 11
    assert not any(layer["zeros"] for layer in summary["stages"][0]["layers"])
    assert Image.open(out / "stages.png").size > (800, 400)


@pytest.mark.slow
def test_the_sparse_network_is_as_sparse_as_the_rule_lets_it_be_and_stays_so_on_disk(out):
    summary = json.loads((out / "summary.json").read_text())
    told = {layer["name"]: layer["zeros"] for layer in summary["stages"][1]["layers"]}
    model = ARCHITECTURES["jacintonet11"](SIDE, 2)
    snapshots.load_model(out / "sparse" / f"model_iter_{ITERATIONS}", model)
    found = sparsity(model)
    assert {layer.name: layer.zeros for layer in found} == told
    for layer in found:
        most = 0.475 if layer.name == "conv1a" else 0.95
        assert layer.zeros / layer.weights <= (most if layer.prunable else 0)
    assert zero_share(found) > 0.3


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_says_the_same(options, out, capsys):
    before = json.loads((out / "summary.json").read_text())
    snapshot = out / "sparse" / f"snapshot_iter_{ITERATIONS}"
    written = snapshot.stat().st_mtime_ns
    assert command.main(options) == 0
    assert json.loads((out / "summary.json").read_text()) == before
    assert snapshot.stat().st_mtime_ns == written
    told = capsys.readouterr().out
    assert "Accuracy over 12 validation images" in told
    assert "res5a_branch2b" in told


@pytest.mark.slow
def test_a_run_with_other_options_leaves_the_results_alone(options, out, capsys):
    before = (out / "summary.json").read_bytes()
    assert command.main([*options, "--l2=0.5"]) == 2
    assert "was taken with --l2 0.0001, this run has --l2 0.5" in capsys.readouterr().err
    assert (out / "summary.json").read_bytes() == before


def test_the_published_values_are_the_defaults():
    args = arguments.parse(["train.txt", "val.txt"])
    preset = arguments.preset_of(args)
    initial, sparse, pruning = preset.initial, preset.sparse, preset.pruning
    assert (initial.rate, initial.l2, initial.l1) == (0.1, 1e-4, 0)
    assert (sparse.rate, sparse.l2, sparse.l1) == (0.01, 0, 1e-5)
    for solver in (initial, sparse):
        assert (solver.iterations, solver.batch, solver.momentum) == (320_000, 256, 0.9)
        assert (solver.power, solver.bias_rate) == (1, 2)
    assert (pruning.target, pruning.start_share, pruning.step_share) == (0.8, 0, 0.01)
    assert (pruning.start_iteration, pruning.step_iterations) == (40_000, 1000)
    assert (args.insize, args.classes) == (224, 1000)
    assert (args.weight_bits, args.activation_bits, args.bias_bits) == (12, 8, 16)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--batchsize=48", "--batch 256 is no multiple of --batchsize 48"),
        ("--iterations=7", "must be 8 or more"),
        ("--target=1.5", "must be from 0 to 1"),
        ("--ooc=swop", "did you mean swap?"),
        ("--spill-dir=/tmp", "are for --ooc"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, said, capsys):
    with pytest.raises(SystemExit) as caught:
        arguments.parse(["train.txt", "val.txt", option])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_out_of_core_every_weight_of_both_stages_is_the_same(options, out, tmp_path):
    other = [x for x in options if not x.startswith("--out=")]
    assert command.main([*other, f"--out={tmp_path}", "--ooc", "--device-memory=24MiB"]) == 0
    for stage in ("initial", "sparse"):
        name = f"{stage}/model_iter_{ITERATIONS}"
        one, same = np.load(out / name), np.load(tmp_path / name)
        for key in one:
            np.testing.assert_array_equal(one[key], same[key], err_msg=key)
