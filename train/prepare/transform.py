"""From the bytes of an image file to the bytes that are packed."""

import os
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from train.dataset_images import open_encoded
from train.dataset_pixels import to_rgb


class Transform(Protocol):
    """Makes of an image file's bytes what is packed."""

    def __call__(self, data: bytes) -> bytes:
        """Returns the bytes to pack; raises whatever Pillow raises on a broken image."""

    def options(self) -> dict[str, Any]:
        """Returns everything that decides about the bytes, for comparing."""


@dataclass(frozen=True)
class PassThrough:
    """The file as it is; only its head is looked at."""

    def __call__(self, data: bytes) -> bytes:
        open_encoded(data).close()
        return data

    def options(self) -> dict[str, Any]:
        return {"pass_through": True}


@dataclass(frozen=True)
class Recode:
    """Decodes, cuts, resizes and encodes.

    Attributes:
        short_edge: Length of the shorter edge in pixels, the longer one in proportion, rounded
            down; 0 leaves the size.
        stretch: Height and width in pixels, whatever the proportions; None leaves them.
        center_crop: Whether first the middle square is cut out.
        colour: 1 makes all images RGB, 0 grey, -1 leaves them as they are.
        quality: Of a JPEG, 1 to 100.
        encoding: ".jpg" or ".png".
        filter: How pixels are interpolated; MXNet's and Caffe's tools do it bilinearly.
    """

    short_edge: int = 0
    stretch: tuple[int, int] | None = None
    center_crop: bool = False
    colour: int = 1
    quality: int = 95
    encoding: str = ".jpg"
    filter: int = Image.Resampling.BILINEAR

    def __call__(self, data: bytes) -> bytes:
        return encode(self.image(data), self.encoding, self.quality)

    def image(self, data: bytes) -> Image.Image:
        """Returns the image before it is encoded."""
        with open_encoded(data) as opened:
            image = self._coloured(opened)
        if self.center_crop:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        size = self._size(*image.size)
        return image if size == image.size else image.resize(size, self.filter)

    def options(self) -> dict[str, Any]:
        return asdict(self)

    def _coloured(self, image: Image.Image) -> Image.Image:
        if self.colour == 1:
            return to_rgb(image)
        if self.colour == 0:
            return to_rgb(image).convert("L")
        keeps = ("L", "RGB") if self.encoding == ".jpg" else ("L", "LA", "RGB", "RGBA")
        if image.mode not in keeps:
            return to_rgb(image)
        image.load()
        return image

    def _size(self, width: int, height: int) -> tuple[int, int]:
        if self.stretch:
            return self.stretch[1], self.stretch[0]
        if not self.short_edge:
            return width, height
        if height > width:
            return self.short_edge, height * self.short_edge // width
        return width * self.short_edge // height, self.short_edge


@dataclass(frozen=True)
class RawPixels:
    """Decodes and resizes; the bytes are uint8 (3, H, W), blue, green, red, as Caffe has them."""

    recode: Recode

    def pixels(self, data: bytes) -> np.ndarray:
        """Returns uint8 (3, H, W), or (1, H, W) if grey."""
        image = np.asarray(self.recode.image(data))
        if image.ndim == 2:
            return image[None]
        return np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1))


def encode(image: Image.Image, encoding: str, quality: int) -> bytes:
    """Returns an image as the bytes of a file.

    Args:
        image: The image.
        encoding: What the name of such a file ends with.
        quality: Of a JPEG.

    Raises:
        MemoryError: There is no memory for it.
        Exception: Whatever Pillow raises on an image that has no such form.
    """
    kind = Image.registered_extensions()[encoding]
    options = {"quality": quality} if kind == "JPEG" else {}
    # Into a file and not into a buffer: Pillow then encodes without the interpreter lock, and
    # threads are worth having.
    with open(os.memfd_create("image"), "w+b") as file:
        try:
            image.save(file, kind, **options)
            file.flush()
        except OSError as error:
            if error.errno is None:
                raise  # Pillow's own, about the image
            raise MemoryError(f"no room for an encoded image: {error.strerror}") from error
        file.seek(0)
        return file.read()
