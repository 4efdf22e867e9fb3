"""From image files to a trained network: what is packed trains as the files did."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from prepare_helpers import done

from train import train_imagenet

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = ["--arch", "tiny", "--insize", "8", "--classes", "3", "-B", "4", "-b", "3", "-i", "4"]


def trained(out, *arguments):
    """Trains four iterations and returns the weights and what was logged of them."""
    assert train_imagenet.main([*map(str, arguments), *TINY, "--out", out]) == 0
    log = [row["main/loss"] for row in json.loads(Path(out, "log").read_text())]
    with np.load(Path(out, "model_iter_4")) as weights:
        return log, {name: weights[name] for name in weights.files}


def records(name):
    done("pack", f"{name}.txt", ".", "--encoding", ".png")
    return f"{name}.rec"


def unindexed(name):
    records(name)
    os.unlink(f"{name}.idx")
    return f"{name}.rec"


def folder(name):
    os.mkdir(name)
    os.rename(records(name), f"{name}/0.rec")
    return name


def raw(name):
    done("lmdb", f"{name}.txt", ".", f"{name}.lmdb")
    return f"{name}.lmdb"


@pytest.mark.parametrize("source", [records, unindexed, folder, raw])
def test_packed_images_train_as_their_files_did(tiny, data, in_tmp, source):
    log, weights = trained("files", *data, "-j", 2)
    packed = [source("train"), source("val")]
    for path in in_tmp.glob("*.png"):
        path.unlink()
    packed_log, packed_weights = trained("packed", *packed, "-j", 0)
    assert packed_log == log
    for name, value in weights.items():
        np.testing.assert_array_equal(packed_weights[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-9], "train.rec: byte "),
        (lambda data: b"x" + data[1:], "train.rec: byte 0: wrong magic"),
    ],
)
def test_a_damaged_record_file_ends_training_before_it_begins(
    tiny, data, in_tmp, capsys, damage, message
):
    packed = [records("train"), records("val")]
    Path("train.rec").write_bytes(damage(Path("train.rec").read_bytes()))
    before = sorted(os.listdir())
    assert train_imagenet.main([*packed, *TINY]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert sorted(os.listdir()) == before
