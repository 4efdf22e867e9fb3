"""Images in LMDB folders, as Caffe's tools write them."""

from array import array
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from train.dataset_images import Data, Images, check_label, open_encoded
from train.errors import InputError
from train.records import datum, lmdb_file
from train.records.lmdb_file import LmdbFile


class LmdbImages(Images):
    """The images of an LMDB folder, in the order of its keys.

    Labels are checked when they are read: opening it goes over the keys alone.

    Args:
        path: The folder.
        classes: Labels must be below this; None takes every label from 0 up.

    Raises:
        InputError: It is missing, no LMDB, truncated, or empty.
    """

    def __init__(self, path: Path, classes: int | None = None):
        self.source = path
        self._file = LmdbFile(path)
        self._classes = classes
        if not len(self._file):
            raise InputError(f"{path}: the LMDB holds no image")

    def __len__(self) -> int:
        return len(self._file)

    @cached_property
    def labels(self) -> array:
        values = enumerate(self._file.values())
        return array("i", [self._label(i, self._datum(i, value)) for i, value in values])

    def where(self, index: int) -> str:
        return f"{self.source}: key {lmdb_file.text(self._file.keys[index])}"

    def called(self, index: int) -> str:
        return f"#{index}"

    def read(self, index: int) -> Data:
        return self._file.value(index)

    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        found = self._datum(index, data)
        label = self._label(index, found)
        return (open_encoded(found.data) if found.encoded else self._raw(index, found)), label

    def _label(self, index: int, found: datum.Datum) -> int:
        return check_label(found.label, self.where(index), self._classes)

    def _datum(self, index: int, data: Data) -> datum.Datum:
        try:
            return datum.decode(data)
        except ValueError as error:
            raise InputError(f"{self.where(index)}: {error}") from error

    def _raw(self, index: int, found: datum.Datum) -> Image.Image:
        shape = found.channels, found.height, found.width
        if found.floats:
            raise InputError(f"{self.where(index)}: a Datum of {found.floats} floats, not an image")
        if found.channels not in (1, 3) or min(shape) < 1 or len(found.data) != np.prod(shape):
            raise InputError(
                f"{self.where(index)}: a Datum of {found.channels} x {found.height} x "
                f"{found.width} with {len(found.data)} bytes; an image has 1 or 3 channels and a "
                f"byte for each pixel of each"
            )
        pixels = np.frombuffer(found.data, np.uint8).reshape(shape)
        if found.channels == 1:
            return Image.fromarray(pixels[0])
        return Image.fromarray(np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0)))
