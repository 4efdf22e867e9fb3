"""Accuracy: hits among the first one and five, over every image once."""

import numpy as np
import pytest

import train  # noqa: F401  Chainer's shims come before Chainer

import chainer  # isort: skip

from train.batches import SweepBatches
from train.jacinto import __main__ as command
from train.jacinto.accuracy import accuracy


class Scores:
    """Images that are their own scores."""

    def __init__(self, scores, labels):
        self.scores, self.labels = scores, labels

    def __len__(self):
        return len(self.labels)

    def example(self, index, epoch):
        return self.scores[index], np.int32(self.labels[index])


@pytest.mark.parametrize("size", [1, 7, 50, 64])
def test_every_image_counts_once_whatever_the_batches(size):
    random = np.random.default_rng(1)
    scores = random.normal(size=(50, 12)).astype("f")
    labels = random.integers(0, 12, 50)
    places = [(row > row[label]).sum() for row, label in zip(scores, labels, strict=True)]
    device = chainer.get_device("@numpy")
    found = accuracy(chainer.Variable, SweepBatches(Scores(scores, labels), size), device)
    assert found.top1 == np.mean(np.array(places) < 1)
    assert found.top5 == np.mean(np.array(places) < 5)
    assert found.images == 50


def test_a_network_that_says_the_same_of_all_classes_hits_nothing():
    batches = SweepBatches(Scores(np.zeros((4, 12), "f"), [0, 1, 2, 3]), 2)
    found = accuracy(chainer.Variable, batches, chainer.get_device("@numpy"))
    assert (found.top1, found.top5) == (0, 0)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on from the newest snapshot"),
        (OSError(28, "No space left on device"), 1, "failed: [Errno 28] No space left on device"),
    ],
)
def test_a_run_that_ends_early_says_so_in_one_line(data, monkeypatch, capsys, error, status, said):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "carry_out", fail)
    assert command.main([*data, "--classes=3", "--insize=8"]) == status
    message = capsys.readouterr().err
    assert message == f"train.jacinto: {message.split(': ', 1)[1]}"
    assert said in message
    assert message.count("\n") == 1


def test_an_insize_that_the_images_are_too_small_for_is_refused(data, capsys):
    assert command.main([*data, "--classes=3", "--insize=13"]) == 2
    assert "13" in capsys.readouterr().err
