"""From an opened image to its pixels."""

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Left, top, right, bottom in pixels; right and bottom are the first that do not belong to it.
Box = tuple[int, int, int, int]


def to_rgb(image: Image.Image, box: Box | None = None) -> Image.Image:
    """Returns an image, or a cut of it, in 8-bit red, green, blue.

    Grey and palette images become RGB, 16-bit grey keeps its upper 8 bits (Pillow alone would clip
    it to white), and an alpha channel is dropped.

    Args:
        image: An opened image; it is decoded here.
        box: What to cut out, None for all of it.

    Raises:
        ValueError: The pixels are 32-bit numbers, whose range no one knows.
        Exception: Whatever Pillow raises on a broken file.
    """
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers: save it with 8 or 16 bits")
    # Cut before anything is converted: there is less of it then.
    cut = image if box is None else image.crop(box)
    if cut.mode.startswith("I;16"):
        cut = Image.fromarray((np.asarray(cut) >> 8).astype(np.uint8))
    if cut.mode == "RGB":
        # Converting would copy it.
        cut.load()
        return cut
    return cut.convert("RGB")


def read_rgb(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decodes an image file as :func:`to_rgb` does.

    Args:
        path: The image file, in any format that Pillow reads.

    Returns:
        uint8, (3, H, W), red, green, blue.

    Raises:
        Exception: Whatever Pillow raises on a missing or broken file, or :func:`to_rgb`.
    """
    with Image.open(path) as image:
        return np.asarray(to_rgb(image)).transpose(2, 0, 1)
