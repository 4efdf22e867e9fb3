"""What all sources of labelled images have in common, wherever they keep them."""

import bisect
import io
import itertools
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from train.errors import InputError

#: An encoded image, or what else a source keeps for one.
Data = bytes | memoryview

#: Labels are kept as 32-bit numbers.
_MOST = 2**31 - 1


class Images(ABC):
    """Labelled images: a list file, packed records or an LMDB.

    Any number of threads may read at once. A copy made by pickling reads for itself, so that
    worker processes can be given one.

    Attributes:
        source: What the user named.
    """

    source: Path

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def labels(self) -> array:
        """The class of each image.

        Raises:
            InputError: A label is out of range; only a source that finds its labels when they are
                first asked for raises here, the others when they are opened.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """Returns where image `index` was found, as ``list.txt:17`` or ``a.rec: byte 4096``."""

    @abstractmethod
    def called(self, index: int) -> str:
        """Returns what messages call image `index`: a path, a key or a number."""

    @abstractmethod
    def read(self, index: int) -> Data:
        """Reads what is kept of image `index`, not decoded.

        Raises:
            InputError: The source is damaged there; names it and the place.
            OSError: The image's file cannot be read.
        """

    @abstractmethod
    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        """Makes an image and its label of what :meth:`read` returned.

        Raises:
            InputError: The label is out of range.
            Exception: Whatever Pillow raises on broken data.
        """

    def select(self, indices: Iterable[int]) -> "Images":
        """Returns these images alone, in this order."""
        return Chosen(self, indices)

    def part(self, number: int, parts: int) -> "Images":
        """Returns one of `parts` equal shares, of ceil(length / parts) images, the last fewer.

        Raises:
            InputError: There are too few images for so many parts.
        """
        return self.select(share(len(self), number, parts, str(self.source)))


def share(length: int, number: int, parts: int, what: str) -> range:
    """Returns the indices of one of `parts` equal shares.

    Raises:
        ValueError: `number` is not below `parts`.
        InputError: The share is empty.
    """
    if not 0 <= number < parts:
        raise ValueError(f"part {number} of {parts}")
    size = -(-length // parts)
    indices = range(min(number * size, length), min((number + 1) * size, length))
    if not indices:
        raise InputError(f"{what}: {length} images are too few for {parts} parts")
    return indices


class Chosen(Images):
    """Some images of another source."""

    def __init__(self, images: Images, indices: Iterable[int]):
        self.source = images.source
        self._images = images
        self._indices = array("q", indices)

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def labels(self) -> array:
        labels = self._images.labels
        return array("i", [labels[i] for i in self._indices])

    def where(self, index: int) -> str:
        return self._images.where(self._indices[index])

    def called(self, index: int) -> str:
        return self._images.called(self._indices[index])

    def read(self, index: int) -> Data:
        return self._images.read(self._indices[index])

    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        return self._images.decode(self._indices[index], data)


class Chained(Images):
    """Several sources, one after the other."""

    def __init__(self, source: Path, members: Sequence[Images]):
        self.source = source
        self._members = members
        self._starts = list(itertools.accumulate((len(m) for m in members), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def labels(self) -> array:
        return array("i", itertools.chain.from_iterable(m.labels for m in self._members))

    def where(self, index: int) -> str:
        member, index = self._find(index)
        return member.where(index)

    def called(self, index: int) -> str:
        member, index = self._find(index)
        return member.called(index)

    def read(self, index: int) -> Data:
        member, index = self._find(index)
        return member.read(index)

    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        member, index = self._find(index)
        return member.decode(index, data)

    def _find(self, index: int) -> tuple[Images, int]:
        which = bisect.bisect_right(self._starts, index) - 1
        return self._members[which], index - self._starts[which]


class Preloaded(Images):
    """A source of which some images are read once and kept in memory, not decoded.

    Args:
        images: The source. The others are read from it when they are asked for.
        indices: Which to keep; None keeps all.

    Raises:
        InputError: An image cannot be read; names the source and the place.
    """

    def __init__(self, images: Images, indices: Iterable[int] | None = None):
        self.source = images.source
        self._images = images
        self._data: dict[int, bytes] = {}
        for index in range(len(images)) if indices is None else indices:
            try:
                self._data[index] = bytes(images.read(index))
            except OSError as error:
                raise unreadable(images, index, error) from error

    def __len__(self) -> int:
        return len(self._images)

    @property
    def labels(self) -> array:
        return self._images.labels

    def where(self, index: int) -> str:
        return self._images.where(index)

    def called(self, index: int) -> str:
        return self._images.called(index)

    def read(self, index: int) -> Data:
        data = self._data.get(index)
        return self._images.read(index) if data is None else data

    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        return self._images.decode(index, data)


def open_encoded(data: Data) -> Image.Image:
    """Opens an encoded image.

    Raises:
        ValueError: Pillow knows no such format.
    """
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        kind = "empty" if not len(data) else "of no format that Pillow reads"
        raise ValueError(f"cannot identify image file: it is {kind}") from None


def unreadable(images: Images, index: int, error: Exception) -> InputError:
    """Returns an error that says which image cannot be read, and why, in one line."""
    if isinstance(error, InputError):
        return error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    place = f"{images.where(index)}: cannot read the image {images.called(index)}"
    return InputError(f"{place}: {' '.join(reason.split())}")


def check_label(label: float, where: str, classes: int | None) -> int:
    """Returns a label as a class number.

    Args:
        label: As it was read.
        where: What an error begins with.
        classes: Labels must be below this; None takes every label from 0 up.

    Raises:
        InputError: It is no whole number or out of range.
    """
    if label != label or label in (float("inf"), float("-inf")) or label != int(label):
        raise InputError(f"{where}: the label {label} is not a whole number")
    if label < 0 or (classes is not None and label >= classes):
        allowed = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise InputError(f"{where}: label {int(label)} is out of range, labels are {allowed}")
    if label > _MOST:
        raise InputError(f"{where}: label {int(label)} is larger than any class number")
    return int(label)


def require_same_classes(training: Images, validation: Images) -> None:
    """Looks whether every class is in both.

    Raises:
        InputError: A class has images in one of them only: the two were labelled apart, or one of
            them was cut short.
    """
    for have, lack in ((training, validation), (validation, training)):
        missing = sorted(set(have.labels) - set(lack.labels))
        if missing:
            first = missing[0]
            where = have.where(list(have.labels).index(first))
            more = f" (and {len(missing) - 1} classes more)" if len(missing) > 1 else ""
            raise InputError(
                f"{lack.source}: class {first}{more} has no image here, and has at {where}: "
                f"label both with one class file"
            )
