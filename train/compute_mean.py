"""Writes the mean of a list's images, which training subtracts.

python train/compute_mean.py train.txt --root images --output mean.npy
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:
    # Run as a file, Python looks for modules beside it and not where the package lies.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from swapmem.files import replacing
from train.batches import SweepBatches
from train.dataset import Pictures
from train.dataset_images import Images
from train.errors import InputError
from train.imagelist import read_list

#: Images that are decoded together.
_BATCH = 64


def mean_image(
    images: Images,
    jobs: int = 0,
    *,
    per_channel: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Averages images.

    Args:
        images: The images, all of one size.
        jobs: How many threads read them.
        per_channel: Average all pixels of a colour; the images may be of any sizes.
        progress: Told how many of how many images are done.

    Returns:
        float32, (3, H, W), or (3, 1, 1) per channel.

    Raises:
        InputError: An image cannot be read or has another size than the first; names the list
            file and the line.
    """
    total: NDArray[np.float64] | None = None
    index = 0
    pixels = 0
    with SweepBatches(Pictures(images), _BATCH, jobs) as batches:
        for picture in (picture for batch in batches for picture in batch):
            pixels += picture[0].size
            if per_channel:
                picture = picture.sum((1, 2), dtype=np.float64, keepdims=True)
            if total is None:
                total = np.zeros(picture.shape)
            elif picture.shape != total.shape:
                raise InputError(
                    f"{images.where(index)}: {images.called(index)} is {_size(picture)}, the "
                    f"images before it are {_size(total)}: all must have the same size"
                )
            total += picture
            index += 1
            progress(index, len(images))
    assert total is not None  # a list has at least one image
    return (total / (pixels if per_channel else index)).astype(np.float32)


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[2]}"


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="compute_mean.py",
        description="Write the mean of a list's images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("list", metavar="LIST", help="list of images: 'path label'")
    parser.add_argument("--root", "-R", default=".", help="directory the list's paths start from")
    parser.add_argument("--output", "-o", default="mean.npy", help="file to write")
    args = parser.parse_args(argv)
    try:
        images = read_list(args.list, args.root)
        mean = mean_image(images, jobs=len(os.sched_getaffinity(0)))
        with replacing(args.output) as file:
            np.save(file, mean)
    except (InputError, OSError) as error:
        print(f"compute_mean.py: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: the mean of {len(images)} images of {_size(mean)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
