"""The command: what it writes, how it resumes, and how it refuses."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from saved_arrays import arrays

from train import data as data_of_a_run
from train import train_imagenet
from train.models import ARCHITECTURES
from train.trainer import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--arch", "tiny", "--insize", "8", "--classes", "3", "-B", "4", "-b", "3", "-j", "2"]


@pytest.fixture
def command(tiny, data, undrawn):
    """Runs the command in this process on the small network and returns its status."""

    def run(*options, lists=data):
        return train_imagenet.main([*lists, *TINY, *map(str, options)])

    return run


def assert_same_state(path, other):
    """Compares all that later iterations depend on: all but times, log and file names."""
    ours, theirs = arrays(path), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        if "elapsed" not in name and "LogReport" not in name and not name.endswith("/written"):
            np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def log(out="result"):
    return json.loads(Path(out, "log").read_text())


def tree(directory):
    """Returns each file's content, by name."""
    found = Path(directory).rglob("*")
    return {str(p): p.read_bytes() for p in found if p.is_file()}


def test_training_logs_evaluates_and_saves_every_epoch_and_at_the_end(tiny, data):
    assert train_imagenet.main([*data, *TINY, "--iteration", "7", "--n-retains", "0"]) == 0
    # Ten images in batches of four: epochs end with iterations 3 and 5; 7 is the last.
    assert [row["iteration"] for row in log()] == [3, 5, 7]
    assert all("validation/main/loss" in row for row in log())
    names = {f"{kind}_iter_{i}" for kind in ("model", "snapshot") for i in (3, 5, 7)}
    assert set(os.listdir("result")) == names | {"log", "loss.png", "accuracy.png", "cg.dot"}
    assert log()[-1].keys() >= set(COLUMNS)
    for name in ("loss.png", "accuracy.png"):
        with Image.open(Path("result", name)) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 10  # curves, not a blank sheet


def test_the_graph_of_the_first_loss_is_dumped_and_not_again_by_a_run_that_goes_on(command):
    command("--iteration", 3, "--accumulate", 2)
    graph = Path("result", "cg.dot").read_text()
    assert graph.startswith("digraph graphname{")
    # From the images to one loss, of the training network.
    assert graph.count('"SoftmaxCrossEntropy"') == 1
    assert "Convolution2DFunction" in graph
    command("--iteration", 4, "--accumulate", 2, "--resume", "result/snapshot_iter_3", "-o", "next")
    assert "cg.dot" not in os.listdir("next")


def test_snapshots_can_be_taken_more_often_than_the_network_is_evaluated(command):
    assert command("--iteration", 7, "--n-retains", 0, "--snapshot-every", 2) == 0
    assert [row["iteration"] for row in log()] == [3, 5, 7]
    found = {name for name in os.listdir("result") if name.startswith("snapshot")}
    assert found == {f"snapshot_iter_{i}" for i in (2, 4, 6, 7)}
    resume = ["--resume", "result/snapshot_iter_4", "--out", "resumed"]
    assert command("--iteration", 7, "--n-retains", 0, "--snapshot-every", 2, *resume) == 0
    assert_same_state("result/snapshot_iter_7", "resumed/snapshot_iter_7")


def test_the_length_is_in_epochs_unless_iterations_are_given(command):
    command("--epoch", 2)
    assert log()[-1]["iteration"] == 5
    command("--epoch", 2, "--iteration", 3, "--out", "short")
    assert log("short")[-1]["iteration"] == 3


def test_a_test_run_evaluates_and_logs_every_ten_iterations(command):
    assert command("--iteration", 25, "--test") == 0
    assert [row["iteration"] for row in log()] == [10, 20, 25]
    assert all("validation/main/accuracy" in row for row in log())


def test_the_learning_rate_falls_to_a_tenth_at_every_step(command):
    command("--epoch", 6, "--lr-step", 2, "--lr", 0.5)
    assert [row["lr"] for row in log()] == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_the_same_seed_gives_the_same_weights_with_any_number_of_threads(command):
    command("--iteration", 6, "--seed", 3, "-j", 0, "--out", "a")
    np.random.standard_normal(5)
    command("--iteration", 6, "--seed", 3, "-j", 4, "--out", "b")
    command("--iteration", 6, "--seed", 4, "-j", 0, "--out", "c")
    assert_same_state("a/snapshot_iter_6", "b/snapshot_iter_6")
    a, c = arrays("a/model_iter_6"), arrays("c/model_iter_6")
    assert any(np.any(a[name] != c[name]) for name in a)


def test_the_weights_do_not_depend_on_what_loads_the_images(command, monkeypatch):
    kind, made = data_of_a_run.LoadingProcesses, []

    def noted(*args):
        made.append(kind(*args))
        return made[-1]

    monkeypatch.setattr(data_of_a_run, "LoadingProcesses", noted)
    assert command("-i", 3, "--iterator", "serial", "--out", "serial") == 0
    assert not made
    assert command("-i", 3, "--iterator", "process", "--out", "process") == 0
    assert made
    assert_same_state("serial/snapshot_iter_3", "process/snapshot_iter_3")


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(command):
    options = ["--seed", 1, "--lr-step", 1, "--n-retains", 0]
    assert command("--iteration", 12, "--out", "whole", *options) == 0
    assert command("--iteration", 7, "--out", "part", *options) == 0
    # Seven ends in the middle of an epoch.
    for out, start in (("whole", 3), ("whole", 5), ("part", 7), ("whole", 8)):
        np.random.seed(77)
        resumed = f"resumed from {start}"
        resume = ["--resume", f"{out}/snapshot_iter_{start}", "--out", resumed]
        assert command("--iteration", 12, *resume, *options) == 0
        assert_same_state("whole/snapshot_iter_12", f"{resumed}/snapshot_iter_12")
        assert_same_state("whole/snapshot_iter_10", f"{resumed}/snapshot_iter_10")
        rows = [[row["iteration"] for row in log(out)] for out in ("whole", resumed)]
        assert rows[1] == (sorted([*rows[0], 7]) if start == 7 else rows[0])
        for ours, theirs in zip(log("whole")[-2:], log(resumed)[-2:], strict=True):
            assert ours["main/loss"] == pytest.approx(theirs["main/loss"], rel=1e-6)
            assert ours["lr"] == theirs["lr"]


def test_a_crash_is_gone_on_from_by_the_same_command(command, monkeypatch, tiny):
    command("--iteration", 8, "--out", "whole")
    forward, calls = tiny.forward, []

    def crash(self, x, t):
        calls.append(1)
        if len(calls) == 10:  # in iteration 6, counting the evaluations
            raise KeyboardInterrupt
        return forward(self, x, t)

    monkeypatch.setattr(tiny, "forward", crash)
    assert command("--iteration", 8, "--autoload") == 130
    assert command("--iteration", 8, "--autoload") == 0
    assert len(calls) == 10 + 3 + 2  # iterations 6 to 8 and an evaluation of two batches
    assert_same_state("whole/snapshot_iter_8", "result/snapshot_iter_8")


def test_a_finished_run_is_not_gone_on_with(command):
    command("--epoch", 3)
    before = tree("result")
    assert command("--epoch", 2, "--autoload") == 0
    assert tree("result") == before


def test_weights_are_taken_from_another_run(command):
    command("--iteration", 3, "--out", "first")
    command("--iteration", 1, "--initmodel", "first/model_iter_3", "--lr", 1e-30,
            "--weight-decay", 0)  # fmt: skip
    first, second = arrays("first/model_iter_3"), arrays("result/model_iter_1")
    np.testing.assert_array_equal(first["conv/W"], second["conv/W"])


def test_nothing_printed_into_a_pipe_moves_a_cursor(command, capsys):
    command("--iteration", 3)
    printed = capsys.readouterr().out
    assert "\033" not in printed
    assert [line.split()[0] for line in printed.splitlines()] == ["epoch", "1"]


def refuses(command, capsys, *options, status=2):
    """Runs the command, which must fail with one line and change no file; returns the line."""
    before = tree(".")
    assert command(*options) == status
    error = capsys.readouterr().err
    assert error.startswith("train_imagenet.py: ")
    assert error.count("\n") == 1
    assert tree(".") == before
    return error


def test_files_that_cannot_be_used_are_named_in_one_line(command, capsys, in_tmp):
    command("--iteration", 1)
    (in_tmp / "result/model_iter_1").rename("weights")
    (in_tmp / "noise").write_bytes(bytes(1000))
    capsys.readouterr()
    for options, message in {
        ("--mean", "absent.npy"): "absent.npy: cannot read the mean image: No such file",
        ("--classes", "2"): "train.txt:3: label 2 is out of range, labels are 0 to 1",
        ("--root", "nowhere"): "train.txt:1: there is no image 'nowhere/train 0.png'",
        ("--resume", "absent"): "absent: cannot be read: No such file",
        ("--resume", "noise"): "noise: damaged, or no npz file at all",
        ("--resume", "weights"): "weights: not a snapshot of this trainer",
        ("--resume", "result/snapshot_iter_1", "--seed", "8"): "was taken with --seed 0",
        ("--resume", "result/snapshot_iter_1", "--arch", "resnet50"): "was taken with --arch tiny",
        ("--resume", "result/snapshot_iter_1", "--optimizer", "adam"): "with --optimizer momentum_",
        ("--initmodel", "noise"): "noise: damaged",
        ("--initmodel", "weights", "--classes", "9"): "weights: not this Tiny: 'classifier/W'",
        ("--insize", "3"): "--insize 3: Tiny takes images of 4 x 4 pixels and every larger size",
        ("--insize", "13"): "an insize of 13 cannot be cut from images of 12x12",
        ("--out", "noise"): "--out noise: cannot be made: File exists",
    }.items():
        assert message in refuses(command, capsys, *options)


def test_the_newest_snapshot_is_not_passed_over_when_it_is_damaged(command, capsys, in_tmp):
    command("--iteration", 5)
    newest = in_tmp / "result/snapshot_iter_5"
    newest.write_bytes(newest.read_bytes()[:-30])
    capsys.readouterr()
    assert "snapshot_iter_5: damaged" in refuses(command, capsys, "--autoload")


def test_a_snapshot_over_another_list_is_refused(command, capsys, in_tmp):
    command("--iteration", 1)
    capsys.readouterr()
    lines = (in_tmp / "train.txt").read_text().splitlines(keepends=True)
    (in_tmp / "train.txt").write_text("".join(lines[1:]))
    error = refuses(command, capsys, "--resume", "result/snapshot_iter_1")
    assert "over 10 examples, now there are 9" in error


def test_a_class_that_is_missing_in_one_list_is_refused(command, capsys, in_tmp):
    lines = (in_tmp / "val.txt").read_text().splitlines(keepends=True)
    (in_tmp / "val.txt").write_text("".join(line for line in lines if not line.endswith(" 2\n")))
    assert "val.txt: class 2 has no image here" in refuses(command, capsys)


@pytest.mark.parametrize("name", ["train 4.png", "val 4.png"])
def test_a_broken_image_ends_the_run_but_costs_nothing(command, capsys, in_tmp, name):
    (in_tmp / name).write_bytes((in_tmp / name).read_bytes()[:-40])
    assert command("--iteration", 12) == 2
    where = name.replace(" 4.png", ".txt:5")
    error = capsys.readouterr().err
    assert error.startswith(f"train_imagenet.py: error: {where}: cannot read the image './{name}'")
    assert error.count("\n") == 1
    if name.startswith("val"):  # found by the first evaluation: the weights are saved before it
        assert sorted(os.listdir("result")) == ["cg.dot", "model_iter_3"]


def test_broken_images_are_left_out_on_request_and_named(command, capsys, in_tmp):
    (in_tmp / "train 4.png").write_text("broken")
    (in_tmp / "train 7.png").unlink()
    Image.new("RGB", (5, 12)).save(in_tmp / "val 0.png")
    assert command("--iteration", 4, "--skip-broken") == 0
    error = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in error] == [
        ["skipped", "train.txt:5"], ["skipped", "train.txt:8"],
        ["train.txt", "2 of 10 images skipped"],
        ["skipped", "val.txt:1"], ["val.txt", "1 of 5 images skipped"],
    ]  # fmt: skip
    assert log()[-1]["epoch"] == 2  # sixteen examples of eight


def test_a_list_without_one_good_image_is_refused(command, capsys, in_tmp):
    for path in in_tmp.glob("val*.png"):
        path.unlink()
    assert command("--skip-broken") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("error: val.txt: not one of its 5 images can be used")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "resnet"], "unknown architecture 'resnet': did you mean resnet50? known: "),
        (["--arch", "GoogleNet"], "did you mean googlenet? "),
        (["--arch", "xyzw"], "unknown architecture 'xyzw': known: " + ", ".join(ARCHITECTURES)),
        (["-B", "0"], "argument --batchsize/-B: 0: must be 1 or more"),
        (["-B", "four"], "'four' is not a whole number"),
        (["--seed", "-1"], "-1: must be from 0 to 4294967295"),
        (["--lr", "0"], "0: must be above 0"),
        (["--lr", "nan"], "nan: must be above 0"),
        (["--lr", "fast"], "'fast' is not a number"),
        (["--spill-dir", "x"], "are for out-of-core training: add --ooc"),
        (["--device-memory", "1GiB"], "are for out-of-core training: add --ooc"),
        (["--resume", "x", "--autoload"], "give only one of them"),
        (["--host-memory", "1GiB"], "add --gpu and --ooc"),
        (["--host-memory", "1GiB", "--ooc"], "add --gpu and --ooc"),
        (["--gpu", "-2"], "-2: must be -1 or more"),
        (["--gpu", "all"], "'all' is not a whole number"),
        (["--gpu", "0", "1", "0"], "0,1,0: the same GPU twice"),
        (["--gpu", "0", "-1"], "-1 is none: it does not go with others"),
        (["--device", "cuda:0"], "'cuda:0' is ChainerX's: give the GPU's number"),
        (["--gpu", "0", "--processes", "2"], "--processes is for training without GPUs"),
        (["--communicator", "pure_nccI"], "'pure_nccI': did you mean pure_nccl? known: pure_nccl,"),
        (["--iterator", "multithread"], "unknown iterator 'multithread': did you mean thread? "),
        (["--optimizer", "rmsprob"], "unknown optimizer 'rmsprob': did you mean rmsprop? "),
        (["--loadtype", "orginal"], "unknown loadtype 'orginal': did you mean original? "),
        (["--schedule", "polly"], "unknown schedule 'polly': did you mean poly? known: step, poly"),
        (["--ooc=swop"], "unknown way to save memory 'swop': did you mean swap? known: auto, "),
        (["--lr-step", "3", "--lr-steps", "4"], "give only one of them"),
        (["--lr-steps", "4,x"], "'x' is not a whole number"),
        (["--schedule", "poly", "--lr-step", "3"], "do not go with --schedule poly"),
        (["--optimizer", "rmsprop_warmup", "--schedule", "fixed"], "has a schedule of its own"),
        (["--weight-decay", "-1"], "-1: must be 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_explained(capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        train_imagenet.main(["train.txt", "val.txt", *options])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


class FakeRuntime:
    """Stands for cupy.cuda.runtime on a machine with so many GPUs, or with a broken driver."""

    def __init__(self, count):
        self._count = count

    def getDeviceCount(self):
        if self._count is None:
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return self._count


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (None, "--gpu 2: no GPU can be used here: cudaErrorNoDevice"),
        (2, "--gpu 2: this machine has 2 GPUs, counted from 0"),
    ],
)
def test_a_gpu_that_is_not_there_is_said(command, capsys, monkeypatch, count, message):
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=FakeRuntime(count)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert command("--gpu", "2") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_gpu_without_cupy_is_said(command, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert command("--gpu", "0") == 2
    assert "--gpu 0: CuPy cannot be imported" in capsys.readouterr().err


def test_names_and_defaults_are_those_of_chainers_example():
    args = train_imagenet.arguments.parse(["t", "v"])
    assert vars(args).items() >= {
        "batchsize": 32, "epoch": 10, "mean": "mean.npy", "out": "result", "root": ".",
        "val_batchsize": 250, "loaderjob": None, "arch": "nin", "insize": 227, "gpu": [],
        "iteration": 0, "initmodel": None, "resume": None, "test": False, "ooc": None,
    }.items()  # fmt: skip
    short = ["-aresnet50", "-B1", "-E2", "-i3", "-mm", "-rr", "-oo", "-Rroot", "-j4", "-b5"]
    args = train_imagenet.arguments.parse(["t", "v", *short])
    assert (args.arch, args.batchsize, args.epoch, args.iteration) == ("resnet50", 1, 2, 3)
    assert (args.mean, args.resume, args.out, args.root) == ("m", "r", "o", "root")
    assert (args.loaderjob, args.val_batchsize) == (4, 5)


def test_what_follows_the_gpus_or_ooc_is_not_taken_for_one():
    parse = train_imagenet.arguments.parse
    lists = ["1.txt", "v"]
    for words, gpus in {
        ("--gpu", "0", "1", "2", "3"): [0, 1, 2, 3],
        ("-g", "2"): [2],
        ("-d", "@cupy:1"): [1],
        ("--devices", "0", "@cupy:1"): [0, 1],
        ("--gpus=3,1",): [3, 1],
        ("--gpu", "-1"): [],
        ("--device", "@numpy"): [],
    }.items():
        args = parse([*words, *lists])
        assert (args.gpu, args.train, args.val) == (gpus, *lists)
    for words, way in ((["--ooc"], "auto"), (["--ooc", "swap"], "swap"), (["--ooc=swap"], "swap")):
        args = parse([*words, *lists])
        assert (args.ooc, args.train, args.val) == (way, *lists)


def test_the_schedule_and_the_optimizer_are_the_ones_asked_for(command):
    def rates(*options):
        assert command("--lr", 0.8, "-E", 4, "-B", 5, *options, "--out", "out") == 0
        return [row["lr"] for row in log("out")]

    assert rates("--schedule", "poly") == pytest.approx([0.7, 0.5, 0.3, 0.1])
    assert rates("--schedule", "fixed") == [0.8] * 4
    assert rates("--lr-steps", "1,3", "--lr-gamma", 0.5) == pytest.approx([0.8, 0.4, 0.4, 0.2])
    # The warm-up has 0.8 while the rate has not fallen, and half of it from the start.
    assert rates("--optimizer", "rmsprop_warmup") == pytest.approx([0.4] * 4)


@pytest.mark.parametrize("options", [
    ["--optimizer", "rmsprop_warmup", "--accumulate", "2"],
    ["--optimizer", "adam", "--schedule", "poly", "--bias-rate", "2", "--no-bias-decay"],
])  # fmt: skip
def test_every_way_to_train_resumes_bit_for_bit(command, options):
    # Ten images in batches of four: the first epoch ends in iteration 3, with two batches in 2.
    assert command("-i", 6, "--out", "whole", "--n-retains", 0, *options) == 0
    resume = ["--resume", f"whole/snapshot_iter_{2 if '--accumulate' in options else 3}"]
    assert command("-i", 6, "--out", "part", *resume, *options) == 0
    assert_same_state("whole/snapshot_iter_6", "part/snapshot_iter_6")


@pytest.mark.parametrize("name", ["train_imagenet", "compute_mean"])
@pytest.mark.parametrize("how", ["as a file", "as a module"])
def test_the_commands_run_both_ways(name, how, in_tmp):
    file = str(ROOT / "train" / f"{name}.py")
    call = [file] if how == "as a file" else ["-m", f"train.{name}"]
    where = in_tmp if how == "as a file" else ROOT
    done = subprocess.run(
        [sys.executable, *call, "--help"], cwd=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name}.py")
    assert not done.stderr


def test_the_real_networks_train(write_list, in_tmp, capsys):
    lists = [write_list("train", 3, (70, 66)), write_list("val", 3, (70, 66))]
    np.save("mean.npy", np.full((3, 70, 66), 128, np.float32))
    # The rest of them in test_train_models: it takes a while to save the weights of some.
    for architecture in ("googlenet", "jacintonet11"):
        options = ["-a", architecture, "--insize", "64", "--classes", "3", "-B", "2", "-i", "1"]
        assert train_imagenet.main([*lists, *options]) == 0, capsys.readouterr().err
        assert np.isfinite(log()[-1]["main/loss"])
