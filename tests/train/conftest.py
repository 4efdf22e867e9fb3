"""Pictures, lists and a network small enough to train in milliseconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import train  # noqa: F401  Chainer's shims come before Chainer

import chainer  # isort: skip
import chainer.functions as F  # isort: skip
import chainer.links as L  # isort: skip
from PIL import Image

from train.models import ARCHITECTURES
from train.pictures import PlotLog

SIDE = 12


class Tiny(chainer.Chain):
    """Dropout, batch normalization and every argument of the real networks, in 150 weights."""

    width = 4

    def __init__(self, insize: int = 8, classes: int = 3):
        if insize < 4:
            raise ValueError(
                f"Tiny takes images of 4 x 4 pixels and every larger size, not {insize}"
            )
        super().__init__()
        self.insize = insize
        with self.init_scope():
            self.conv = L.Convolution2D(3, self.width, 3, pad=1)
            self.norm = L.BatchNormalization(self.width)
            self.mix = L.Convolution2D(self.width, self.width, 1)
            self.classifier = L.Linear(self.width, classes)

    def forward(self, x, t):
        y = self.predict(x)
        loss = F.softmax_cross_entropy(y, t)
        chainer.report({"loss": loss, "accuracy": F.accuracy(y, t)}, self)
        return loss

    def predict(self, x):
        h = F.relu(self.mix(F.dropout(F.relu(self.norm(self.conv(x))), 0.3)))
        return self.classifier(F.average_pooling_2d(h, h.shape[2:], stride=1))


class Wide(Tiny):
    """The same with few weights and large activations."""

    width = 32


class Plain(Tiny):
    """The same without what looks at a batch as a whole or draws at random."""

    def predict(self, x):
        h = F.relu(self.mix(F.relu(self.conv(x))))
        return self.classifier(F.average_pooling_2d(h, h.shape[2:], stride=1))

    def __init__(self, insize: int = 8, classes: int = 3):
        super().__init__(insize, classes)
        del self.norm


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> type[Plain]:
    """Makes this network known as ``--arch plain``."""
    monkeypatch.setitem(ARCHITECTURES, "plain", Plain)
    return Plain


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> type[Wide]:
    """Makes the network with large activations known as ``--arch wide``."""
    monkeypatch.setitem(ARCHITECTURES, "wide", Wide)
    return Wide


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> type[Tiny]:
    """Makes the small network known as ``--arch tiny``."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", Tiny)
    return Tiny


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares a run its pictures of the log: they take most of the time of a small one."""
    monkeypatch.setattr(PlotLog, "__call__", lambda self, trainer: None)


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs every test in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_list(in_tmp: Path) -> Callable[..., str]:
    """Returns a function that writes random pictures and a list of them, labels 0, 1, 2, 0..."""

    def write(name: str, count: int, size: tuple[int, int] = (SIDE, SIDE)) -> str:
        random = np.random.default_rng(count)
        rows = []
        for i in range(count):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(in_tmp / f"{name} {i}.png")
            rows.append(f"{name} {i}.png {i % 3}\n")
        (in_tmp / f"{name}.txt").write_text("".join(rows))
        return f"{name}.txt"

    return write


@pytest.fixture
def data(write_list: Callable[..., str], in_tmp: Path) -> list[str]:
    """Two lists and a mean in the current directory, as the first arguments of the trainer."""
    lists = [write_list("train", 10), write_list("val", 5)]
    mean = np.random.default_rng(0).uniform(100, 150, (3, SIDE, SIDE)).astype(np.float32)
    np.save(in_tmp / "mean.npy", mean)
    return lists
