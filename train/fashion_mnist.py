"""Fashion-MNIST as image files and lists: real labelled images, as Debian packages them.

apt install dataset-fashion-mnist
python -m train.fashion_mnist --out data/fashion
"""

import argparse
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from swapmem.files import replacing
from train.errors import InputError

#: Where Debian's package dataset-fashion-mnist has the files.
SOURCE = "/usr/share/datasets/fashion-mnist"

CLASSES = 10

#: Empty pixels around each image of 28 x 28, so that crops of 28 differ.
MARGIN_PIXELS = 2

_PARTS = {"train": "train", "val": "t10k"}
_TYPE_BYTE = 0x08


@dataclass(frozen=True)
class Part:
    """Images and labels of one part of the data.

    Attributes:
        images: uint8, (n, 28, 28), grey.
        labels: uint8, (n,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_part(name: str, source: str | os.PathLike[str] = SOURCE) -> Part:
    """Reads the training or the validation images.

    Args:
        name: "train", 60,000 images, or "val", 10,000.
        source: The directory of the four files.

    Raises:
        InputError: A file is missing or damaged; names it.
    """
    stem = Path(source, _PARTS[name])
    images = _read_idx(Path(f"{stem}-images-idx3-ubyte.gz"), dimensions=3)
    labels = _read_idx(Path(f"{stem}-labels-idx1-ubyte.gz"), dimensions=1)
    if len(images) != len(labels) or labels.max() >= CLASSES:
        raise InputError(
            f"{stem}-*: {len(images)} images, {len(labels)} labels up to {labels.max()}"
        )
    return Part(images, labels)


def write_images(
    out: str | os.PathLike[str],
    source: str | os.PathLike[str] = SOURCE,
    counts: dict[str, int] | None = None,
) -> list[Path]:
    """Writes images as PNG files in a folder for each class, lists of them, and their mean.

    Args:
        out: A directory, made if need be: ``train/3/00017.png``, ``train.txt``, ``val.txt``,
            ``mean.npy``.
        source: See :func:`read_part`.
        counts: How many images of each part, the first ones; None for all.

    Returns:
        The lists of the training and of the validation images.
    """
    directory = Path(out)
    lists = []
    for name in _PARTS:
        part = read_part(name, source)
        count = len(part.images) if counts is None else counts[name]
        padded = np.pad(part.images[:count], ((0, 0), (MARGIN_PIXELS,) * 2, (MARGIN_PIXELS,) * 2))
        rows = list(_write_part(directory, name, padded, part.labels[:count]))
        lists.append(directory / f"{name}.txt")
        with replacing(lists[-1]) as file:
            file.write("".join(rows).encode())
        if name == "train":
            with replacing(directory / "mean.npy") as file:
                mean = padded.mean(axis=0, dtype=np.float64).astype(np.float32)
                np.save(file, np.broadcast_to(mean, (3, *mean.shape)))
    return lists


def _write_part(
    directory: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> Iterator[str]:
    for label in range(CLASSES):
        (directory / name / str(label)).mkdir(parents=True, exist_ok=True)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = f"{name}/{label}/{number:05d}.png"
        Image.fromarray(pixels).save(directory / path)
        yield f"{path} {label}\n"


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads a file of bytes: two zero bytes, type, number of dimensions, sizes, values."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there; Debian's package is dataset-fashion-mnist") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    head = 4 + 4 * dimensions
    sizes = np.frombuffer(data[4:head].ljust(head - 4, b"\0"), ">u4")
    values = np.frombuffer(data[head:], np.uint8)
    if data[:4] != bytes([0, 0, _TYPE_BYTE, dimensions]) or values.size != sizes.prod():
        raise InputError(f"{path}: damaged: not {dimensions} dimensions of bytes, all there")
    return values.reshape(sizes)


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(prog="train.fashion_mnist", description=__doc__.split(":")[0])
    parser.add_argument("--out", "-o", default="data/fashion", help="directory for the files")
    parser.add_argument("--source", default=SOURCE, help="directory of the packed files")
    args = parser.parse_args(argv)
    try:
        for path in write_images(args.out, args.source):
            print(path)
    except InputError as error:
        print(f"train.fashion_mnist: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
