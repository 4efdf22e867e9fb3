"""From an opened image to its pixels."""

import io
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

#: Left, top, right, bottom in pixels; right and bottom are the first that do not belong to it.
Box = tuple[int, int, int, int]

#: What the last row of a cut depends on below it: a JPEG's colours are mostly kept at half the
#: height, and a row of them is interpolated from the two nearest.
_ROWS_BELOW = 1


def to_rgb(image: Image.Image, box: Box | None = None) -> Image.Image:
    """Returns an image, or a cut of it, in 8-bit red, green, blue.

    Grey and palette images become RGB, 16-bit grey keeps its upper 8 bits (Pillow alone would clip
    it to white), and an alpha channel is dropped.

    Args:
        image: An opened image; it is decoded here, a JPEG no further down than the cut.
        box: What to cut out, None for all of it.

    Raises:
        ValueError: The pixels are 32-bit numbers, whose range no one knows.
        Exception: Whatever Pillow raises on a broken file.
    """
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers: save it with 8 or 16 bits")
    if box is not None:
        _end_below(image, box[3] + _ROWS_BELOW)
    # Cut before anything is converted: there is less of it then.
    cut = image if box is None else image.crop(box)
    if cut.mode.startswith("I;16"):
        cut = Image.fromarray((np.asarray(cut) >> 8).astype(np.uint8))
    if cut.mode == "RGB":
        # Converting would copy it.
        cut.load()
        return cut
    return cut.convert("RGB")


def planes(image: Image.Image) -> list[NDArray[np.uint8]]:
    """Returns the pixels of an RGB image by colour: what is computed with them is faster then.

    Returns:
        Red, green and blue; each uint8, (H, W).

    Example:
        >>> red, green, blue = planes(to_rgb(image))
    """
    shape = image.height, image.width
    return [np.frombuffer(image.tobytes("raw", c), np.uint8).reshape(shape) for c in "RGB"]


def _end_below(image: Image.Image, rows: int) -> None:
    """Has only the upper rows of a JPEG decoded, by writing into its head that it has no more.

    Without its end a file is left as it is, so that its decoder says what is missing; and so is a
    progressive one, which is smoothed over more rows where its last scans are missing.
    """
    # A subclass finds further images behind the first.
    if type(image) is not JpegImageFile or rows >= image.height:
        return
    stream = image.fp
    if not isinstance(stream, io.BytesIO):
        return
    with stream.getbuffer() as data:
        place = _find_height(data)
        if place is None or data[-2:].tobytes() != b"\xff\xd9":
            return
        data[place : place + 2] = rows.to_bytes(2, "big")
    codec, _, offset, arguments = image.tile[0]
    # Pillow 10 has no type for it.
    image.tile = [(codec, (0, 0, image.width, rows), offset, arguments)]  # type: ignore[list-item]


def _find_height(data: memoryview) -> int | None:
    """Returns where in the head of a JPEG its height stands, None in a progressive one."""
    place = 2
    # Segment by segment; a camera's thumbnail in one of them has a height too.
    while place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in (0xC0, 0xC1):
            return place + 5
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


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
