"""``--ooc``: the same weights in less memory, and what is said about a budget that cannot be."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from python_runs import last_words
from saved_arrays import arrays, assert_identical

from swapmem.explain.run_file import load_run
from train import train_imagenet

MIB = 1 << 20
SCARCE = ["--ooc", "--device-memory", "24MiB", "--spill-dir", "."]


@pytest.fixture
def command(wide, write_list):
    """Runs the command on a network that needs 40 MiB in training and returns its status."""
    lists = [write_list("train", 20, (64, 64)), write_list("val", 8, (64, 64))]
    np.save("mean.npy", np.full((3, 64, 64), 128, np.float32))

    def run(*options):
        network = ["-a", "wide", "--insize", "64", "--classes", "3", "-B", "8", "-j", "2"]
        return train_imagenet.main([*lists, *network, *options])

    return run


def test_the_weights_are_the_same_in_less_memory(command, capsys):
    assert command("--out", "stock", "-i", "3") == 0
    assert command("--out", "ample", "-i", "3", "--ooc", "--device-memory", "1GiB") == 0
    capsys.readouterr()
    assert command("--out", "scarce", "-i", "3", *SCARCE) == 0
    printed = capsys.readouterr().out
    assert "budget of 24.0 MiB" in printed
    assert printed.endswith("\nswapmem explain scarce/swap_run.json.gz shows the rest\n")

    stock, ample, scarce = (arrays(f"{o}/model_iter_3") for o in ("stock", "ample", "scarce"))
    assert_identical(ample, scarce)
    for name, array in stock.items():
        # Where an array begins may change the last bit of a sum.
        np.testing.assert_allclose(ample[name], array, rtol=1e-4, atol=1e-6, err_msg=name)

    ample, scarce = (
        json.loads(Path(o, "swap_report.json").read_text()) for o in ("ample", "scarce")
    )
    assert ample["peak_live_bytes"] > 30 * MIB
    assert ample["swap_out_bytes"] == 0
    assert scarce["peak_charged_bytes"] <= 24 * MIB < scarce["swap_out_bytes"]
    assert load_run("scarce/swap_run.json.gz").about["model"] == "wide"


def test_an_interrupted_run_goes_on_out_of_core_as_if_nothing_had_been(command):
    assert command("--out", "whole", "-i", "4", *SCARCE) == 0
    assert command("--out", "part", "-i", "2", *SCARCE) == 0
    assert command("--out", "part", "-i", "4", "--autoload", *SCARCE) == 0
    assert_identical(arrays("whole/model_iter_4"), arrays("part/model_iter_4"))


def test_an_interrupt_ends_the_run_and_leaves_no_other_file(command, write_list, in_tmp):
    (in_tmp / "spill").mkdir()
    lists = [write_list("train", 2, (64, 64)), write_list("val", 2, (64, 64))]
    options = "-a wide --insize 64 --classes 3 -B 2 -j 2 -E 100000 --ooc --device-memory 24MiB"
    # A process of a test runner in the background would ignore the signal.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import conftest; from train import models, train_imagenet;"
        "models.ARCHITECTURES['wide'] = conftest.Wide; sys.exit(train_imagenet.main(sys.argv[1:]))"
    )
    here = Path(__file__).parent
    with subprocess.Popen(
        [sys.executable, "-c", program, *lists, *options.split(), "--spill-dir", "spill"],
        env={**os.environ, "PYTHONPATH": f"{here}:{here.parents[1]}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(3):
            assert process.stdout.readline(), process.stderr.read()
        process.send_signal(signal.SIGINT)
        output, error = last_words(process)
    assert process.returncode == 130, error
    first, last = error.splitlines()
    assert first.startswith("interrupted: ends after this iteration")
    assert last.startswith("train_imagenet.py: interrupted; the newest snapshot is result/snap")
    assert "swapmem report" in output
    assert os.listdir("spill") == []
    assert not [name for name in os.listdir("result") if name.startswith(".")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device-memory", "2furlongs"], "not a size: '2furlongs'"),
        (["--device-memory", "0"], "a budget of 0 bytes holds no block"),
        (["--spill-dir", "absent"], "absent: cannot make a file: No such file"),
    ],
)
def test_a_budget_or_directory_that_cannot_be_is_refused(command, capsys, options, message):
    assert command("--ooc", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "train_imagenet.py: error: --device-memory, --host-memory or --spill-dir: "
    )
    assert message in error
    assert error.count("\n") == 1
    assert "result" not in os.listdir()


def test_a_budget_too_small_for_the_network_fails_with_what_would_do(command, capsys):
    assert command("--ooc", "--device-memory", "2MiB") == 1
    error = capsys.readouterr().err
    assert error.startswith("train_imagenet.py: failed: out of device memory")
    assert "budget 2097152 bytes" in error
    assert "at least" in error
    assert error.count("\n") == 1
