"""List files: ``path label`` a line, or MXNet's ``index TAB label [TAB label...] TAB path``."""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from train.dataset_images import Data, Images, check_label, open_encoded
from train.errors import InputError


class Row(NamedTuple):
    """A line of a list file.

    Attributes:
        key: Which image it is; in a list without numbers the position, from 0.
        labels: One label, or several.
        path: The image, as the list names it.
        line: Counted from 1.
    """

    key: int
    labels: tuple[float, ...]
    path: str
    line: int


class ImageList(Images):
    """The images that a list file names, in its order.

    Args:
        source: The list file.
        paths: Where each image is.
        labels: The class of each image.
        lines: The line of `source` that names each image, counted from 1.
        keys: The number of each image; its position where the list has none.
    """

    def __init__(
        self,
        source: Path,
        paths: list[str],
        labels: array,
        lines: array,
        keys: array | None = None,
    ):
        self.source = source
        self.paths = paths
        self.lines = lines
        self.keys = array("q", range(len(paths))) if keys is None else keys
        self._labels = labels

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labels(self) -> array:
        """The class of each image."""
        return self._labels

    def where(self, index: int) -> str:
        """Returns where image `index` was named, as ``list.txt:17``."""
        return f"{self.source}:{self.lines[index]}"

    def called(self, index: int) -> str:
        """Returns the path of image `index` in quotes."""
        return repr(self.paths[index])

    def read(self, index: int) -> Data:
        """Reads the image's file."""
        with open(self.paths[index], "rb", buffering=0) as file:
            return file.read()

    def decode(self, index: int, data: Data) -> tuple[Image.Image, int]:
        """Opens the image; labels were checked when the list was read."""
        return open_encoded(data), self._labels[index]

    def select(self, indices: Iterable[int]) -> "ImageList":
        """Returns the list of these images alone; they keep their line numbers."""
        chosen = list(indices)
        return ImageList(
            self.source,
            [self.paths[i] for i in chosen],
            array("i", [self.labels[i] for i in chosen]),
            array("q", [self.lines[i] for i in chosen]),
            array("q", [self.keys[i] for i in chosen]),
        )

    def require_files(self) -> None:
        """Looks for every image, so that a missing one is found now and not after hours.

        Raises:
            InputError: An image is missing; names the list file, the line and the path.
        """
        for index, path in enumerate(self.paths):
            if not os.path.isfile(path):
                raise InputError(f"{self.where(index)}: there is no image {path!r}")


def read_list(
    source: str | os.PathLike[str], root: str | os.PathLike[str] = ".", classes: int | None = None
) -> ImageList:
    """Reads a list file.

    Each line is a path and a label, separated by white space. The label is what follows the last
    white space, so a path may hold spaces. Empty lines are passed over.

    Args:
        source: The list file, UTF-8.
        root: The directory that relative paths start from.
        classes: Labels must be below this; None takes every label from 0 up.

    Returns:
        The images in the order of the file.

    Raises:
        InputError: The file cannot be read or names no image, a line is not ``path label``, or a
            label is no number or out of range; names the file and the line.

    Example:
        >>> read_list("train.txt", root="images", classes=1000).paths[0]
        'images/a kitten.jpg'
    """
    return _image_list(source, rows(source), root, classes)


def read_lst(
    source: str | os.PathLike[str], root: str | os.PathLike[str] = ".", classes: int | None = None
) -> ImageList:
    """Reads a list file of MXNet's; the first label of a line is the class.

    The arguments, the result and the errors are those of :func:`read_list`.
    """
    return _image_list(source, lst_rows(source), root, classes)


def _image_list(
    source: str | os.PathLike[str],
    found: Iterable[Row],
    root: str | os.PathLike[str],
    classes: int | None,
) -> ImageList:
    source = Path(source)
    paths: list[str] = []
    labels, lines, keys = array("i"), array("q"), array("q")
    for row in found:
        labels.append(check_label(row.labels[0], f"{source}:{row.line}", classes))
        paths.append(os.path.join(root, row.path))
        lines.append(row.line)
        keys.append(row.key)
    return ImageList(source, paths, labels, lines, keys)


def rows(source: str | os.PathLike[str]) -> Iterator[Row]:
    """Reads the lines of a list file of ``path label``; keys count them from 0.

    Raises:
        InputError: As for :func:`read_list`, but for labels out of range.
    """
    for key, (line, number) in enumerate(_lines(source)):
        path, label = _parse(line, f"{source}:{number}")
        yield Row(key, (label,), path, number)


def lst_rows(source: str | os.PathLike[str]) -> Iterator[Row]:
    """Reads the lines of a list file of MXNet's.

    Raises:
        InputError: As for :func:`read_list`, but for labels out of range; a line is something
            else, or a number comes twice.
    """
    seen: dict[int, int] = {}
    for line, number in _lines(source):
        row = _parse_lst(line, number, f"{source}:{number}")
        if seen.setdefault(row.key, number) != number:
            raise InputError(
                f"{source}:{number}: the number {row.key} is that of line {seen[row.key]} too"
            )
        yield row


def rows_of(source: str | os.PathLike[str]) -> Callable[[str | os.PathLike[str]], Iterator[Row]]:
    """Returns the reader for a list file: :func:`lst_rows` for ``.lst``, else :func:`rows`."""
    return lst_rows if os.fspath(source).endswith(".lst") else rows


def _lines(source: str | os.PathLike[str]) -> Iterator[tuple[str, int]]:
    number = 0
    empty = True
    try:
        with open(source, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    empty = False
                    yield line, number
    except OSError as error:
        raise InputError(f"{source}: cannot read the list file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text, somewhere after line {number}") from error
    if empty:
        raise InputError(f"{source}: the list file names no image")


def _parse(line: str, where: str) -> tuple[str, int]:
    fields = line.strip().rsplit(maxsplit=1)
    if len(fields) != 2:
        raise InputError(f"{where}: expected 'path label', found {line.strip()!r}")
    path, text = fields
    try:
        return path, int(text)
    except ValueError:
        raise InputError(f"{where}: the label {text!r} is not a whole number") from None


def _parse_lst(line: str, number: int, where: str) -> Row:
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) < 3:
        raise InputError(f"{where}: expected 'index TAB label TAB path', found {line.strip()!r}")
    try:
        return Row(int(fields[0]), tuple(map(float, fields[1:-1])), fields[-1].strip(), number)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
