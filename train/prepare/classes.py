"""The class file: a class's name a line; its place, from 0, is the class's label.

Training and validation images are labelled by one class file, so that they agree even where a
class has no image in one of the two.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from train.errors import InputError


def read_classes(path: str | os.PathLike[str]) -> list[str]:
    """Reads a class file.

    Raises:
        InputError: It cannot be read, is empty, or names a class twice; names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read the class file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start}: not UTF-8 text") from error
    seen: dict[str, int] = {}
    for number, name in enumerate(lines, start=1):
        if not name.strip():
            raise InputError(f"{path}:{number}: an empty line, where the name of a class should be")
        if seen.setdefault(name, number) != number:
            raise InputError(f"{path}:{number}: the class {name!r} is that of line {seen[name]}")
    if not lines:
        raise InputError(f"{path}: the class file names no class")
    return lines


def class_file(names: Sequence[str]) -> str:
    """Returns the contents of a class file."""
    return "".join(f"{name}\n" for name in names)


def draw(names: Iterable[str], count: int, *seed: object) -> list[str]:
    """Draws names; which ones depends on the seed and the names alone.

    Each name has a place in a random order of all names there could be: others that come or go
    change nothing about it, and drawing again from what was drawn draws the same.

    Args:
        names: What to draw from.
        count: How many.
        seed: Another seed, another draw.

    Returns:
        `count` names, fewer if there are fewer, in their order in `names`.
    """
    names = list(names)

    def place(name: str) -> bytes:
        return hashlib.sha256("\0".join([*map(str, seed), name]).encode()).digest()

    drawn = set(sorted(names, key=place)[:count])
    return [name for name in names if name in drawn]
