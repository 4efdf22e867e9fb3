"""Images of another size, all of one, file by file."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swapmem.files import replacing
from train.errors import InputError
from train.prepare.journal import changes
from train.prepare.parallel import ordered
from train.prepare.transform import Recode, encode
from train.prepare.tree import Tree

#: Beside the images: how they were made, so that others are not mixed among them.
_NOTE = ".enlarge.json"


def enlarge(
    tree: Tree, target: Path, recode: Recode, threads: int, progress: Callable[[int, int], None]
) -> tuple[int, list[tuple[str, str]]]:
    """Writes every image of a tree in another size, under the same path.

    An image that is there already is not made again, so that an interrupted run goes on when it is
    called again; each appears whole or not at all.

    Args:
        tree: The images.
        target: The folder they are written to; made if it is not there.
        recode: What is done to them. They keep the format that their names say.
        threads: How many threads decode and encode.
        progress: Told how many of how many are done.

    Returns:
        How many images there are now, and path and reason of those that could not be read.

    Raises:
        InputError: `target` holds other files, or images made with other options, or not one
            image can be read.
        OSError: The disk is full or broken.
    """
    _claim(target, recode)
    paths = list(tree.walk())
    unreadable = []

    def work(path: str) -> tuple[str, str]:
        wanted = target / path
        if wanted.exists():
            return path, ""
        try:
            image = recode.image(tree.read(path))
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises nearly anything on a broken image
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return path, " ".join(reason.split())
        wanted.parent.mkdir(parents=True, exist_ok=True)
        data = encode(image, wanted.suffix.lower(), recode.quality)
        try:
            with replacing(wanted) as file:
                file.write(data)
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror}; run the same command again to go on", str(wanted)
            ) from error
        return path, ""

    for number, (path, reason) in enumerate(ordered(work, paths, threads), start=1):
        if reason:
            unreadable.append((path, reason))
        progress(number, len(paths))
    if len(unreadable) == len(paths):
        what = f"{unreadable[0][0]!r}: {unreadable[0][1]}" if paths else "there is none"
        raise InputError(f"{tree.root}: not one image can be read; {what}")
    return len(paths) - len(unreadable), unreadable


def _claim(target: Path, recode: Recode) -> None:
    options: dict[str, Any] = json.loads(json.dumps(asdict(recode)))
    note = target / _NOTE
    with contextlib.suppress(FileNotFoundError):
        if differences := changes(json.loads(note.read_bytes()), options):
            raise InputError(f"{target}: its images were made with {differences}")
        return
    target.mkdir(parents=True, exist_ok=True)
    if any(os.scandir(target)):
        raise InputError(f"{target}: not empty, and nothing says that enlarge made what is in it")
    with replacing(note) as file:
        file.write(json.dumps(options).encode())
