"""List files: one ``path label`` a line."""

import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from train.errors import InputError


@dataclass(frozen=True)
class ImageList:
    """The images that a list file names, in its order.

    Attributes:
        source: The list file.
        paths: Where each image is.
        labels: The class of each image.
        lines: The line of `source` that names each image, counted from 1.
    """

    source: Path
    paths: list[str]
    labels: array
    lines: array

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        """Returns where image `index` was named, as ``list.txt:17``."""
        return f"{self.source}:{self.lines[index]}"

    def select(self, indices: Iterable[int]) -> "ImageList":
        """Returns the list of these images alone; they keep their line numbers."""
        chosen = list(indices)
        return ImageList(
            self.source,
            [self.paths[i] for i in chosen],
            array("i", [self.labels[i] for i in chosen]),
            array("i", [self.lines[i] for i in chosen]),
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
    source = Path(source)
    paths: list[str] = []
    labels, lines = array("i"), array("i")
    number = 0
    try:
        with open(source, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                path, label = _parse(line, f"{source}:{number}", classes)
                paths.append(os.path.join(root, path))
                labels.append(label)
                lines.append(number)
    except OSError as error:
        raise InputError(f"{source}: cannot read the list file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text, somewhere after line {number}") from error
    if not paths:
        raise InputError(f"{source}: the list file names no image")
    return ImageList(source, paths, labels, lines)


def _parse(line: str, where: str, classes: int | None) -> tuple[str, int]:
    fields = line.strip().rsplit(maxsplit=1)
    if len(fields) != 2:
        raise InputError(f"{where}: expected 'path label', found {line.strip()!r}")
    path, text = fields
    try:
        label = int(text)
    except ValueError:
        raise InputError(f"{where}: the label {text!r} is not a whole number") from None
    if label < 0 or (classes is not None and label >= classes):
        allowed = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise InputError(f"{where}: label {label} is out of range, labels are {allowed}")
    if label > 2**31 - 1:
        raise InputError(f"{where}: label {label} is larger than any class number")
    return path, label
