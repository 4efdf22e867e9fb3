"""Real labelled images that need no download, written as image files and list files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Where Debian's package dataset-fashion-mnist puts its files.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10


class Source(NamedTuple):
    """Small grey images with their classes.

    Attributes:
        name: what they are, in words.
        images: uint8, (n, height, width).
        labels: (n,), from 0 to 9.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.integer]


def load(count: int) -> Source:
    """Returns the first ``count`` images of Fashion-MNIST, or of scikit-learn's digits.

    Args:
        count: how many.
    """
    if FASHION_MNIST.is_dir():
        return Source(
            "Fashion-MNIST (Debian's dataset-fashion-mnist)",
            read_idx(FASHION_MNIST / "train-images-idx3-ubyte.gz")[:count],
            read_idx(FASHION_MNIST / "train-labels-idx1-ubyte.gz")[:count],
        )
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Their pixels go from 0 to 16.
    images = (digits.images[:count] * (255 / 16)).astype(np.uint8)
    return Source("handwritten digits (scikit-learn)", images, digits.target[:count])


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads a compressed IDX file of bytes.

    Raises:
        ValueError: it is another kind of file.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of bytes")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def write(source: Source, directory: Path, side: int) -> Path:
    """Writes the images enlarged, as RGB PNG files, and a list file that names them.

    Args:
        source: the images.
        directory: where to; made if it is not there.
        side: height and width of the files in pixels.

    Returns:
        The list file, with paths that start from ``directory``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, (image, label) in enumerate(zip(source.images, source.labels, strict=True)):
        name = f"{index:05}.png"
        enlarged = (
            Image.fromarray(image).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        )
        enlarged.save(directory / name, compress_level=1)
        lines.append(f"{name} {label}\n")
    listing = directory / "list.txt"
    listing.write_text("".join(lines))
    return listing
