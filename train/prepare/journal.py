"""What of a packed file is finished, so that packing goes on where it was interrupted."""

import json
import os
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from swapmem.files import replacing
from train.errors import InputError

_FORMAT = "train.prepare journal"


class Done(NamedTuple):
    """What became of an image of the list.

    Attributes:
        key: Its number in the list.
        offset: Where it was packed; below 0 if it was not.
        path: As the list names it, if it could not be read.
        reason: Why it could not be read.
    """

    key: int
    offset: int
    path: str = ""
    reason: str = ""


class Journal:
    """A file that grows by a line for each batch of images that is safe on the disk.

    The first line holds everything that decides about what is packed. A line that was not
    finished counts for nothing.

    Args:
        path: The file; what it says is taken up if it exists.
        made_of: What decides about the packed bytes: list, options.

    Raises:
        InputError: The file was begun with something else.
        OSError: It cannot be read or written.
    """

    def __init__(self, path: Path, made_of: dict[str, Any]):
        self.path = path
        #: How many images of the list are dealt with, from its first on.
        self.done = 0
        #: Of those that were packed, the number in the list and the place; small, for there may
        #: be millions.
        self.keys, self.offsets = array("q"), array("q")
        #: Path and reason of the others.
        self.unreadable: list[tuple[str, str]] = []
        #: Bytes of the packed file that are safe.
        self.end = 0
        head = _line({"format": _FORMAT, "version": 1, "made_of": made_of})
        lines = _whole_lines(path)
        if lines:
            self._compare(json.loads(lines[0]).get("made_of", {}), json.loads(head)["made_of"])
        for line in lines[1:]:
            entry = json.loads(line)
            self._take([Done(*fields) for fields in entry["done"]], entry["end"])
        whole = sum(len(line) for line in lines)
        self._file = open(path, "r+b" if lines else "w+b", buffering=0)  # noqa: SIM115
        self._file.truncate(whole)
        self._file.seek(whole)
        if not lines:
            try:
                self._write(head)
            except BaseException:
                self.close()
                raise

    def add(self, done: Iterable[Done], end: int) -> None:
        """Says that images are safe on the disk, and where the packed file ends now.

        Raises:
            OSError: It cannot be written; counts as not said.
        """
        done = list(done)
        self._write(_line({"done": done, "end": end}))
        self._take(done, end)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _take(self, done: list[Done], end: int) -> None:
        for entry in done:
            if entry.offset < 0:
                self.unreadable.append((entry.path, entry.reason))
            else:
                self.keys.append(entry.key)
                self.offsets.append(entry.offset)
        self.done += len(done)
        self.end = end

    def _write(self, line: bytes) -> None:
        # Unbuffered: what found no room on the disk is not tried again when the file is closed.
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def _compare(self, then: dict[str, Any], now: dict[str, Any]) -> None:
        if differences := changes(then, now):
            raise InputError(
                f"{self.path}: was begun with {differences}: finish it with the same, or begin "
                f"anew with --overwrite"
            )


def changes(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Returns in words in what two records of options differ; nothing if they do not."""
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return ", ".join(f"{name} {then.get(name)!r} and not {now.get(name)!r}" for name in names)


@dataclass(frozen=True)
class Report:
    """Kept beside a finished file: what it was made of, and which images could not be read.

    Attributes:
        made_of: List and options.
        images: How many were packed.
        bytes: How large the file is.
        unreadable: Path and reason of each image that could not be read.
    """

    made_of: dict[str, Any]
    images: int
    bytes: int
    unreadable: list[tuple[str, str]]

    def save(self, path: Path) -> None:
        """Writes the report.

        Raises:
            OSError: It cannot be written.
        """
        with replacing(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode() + b"\n")


def load_report(path: Path) -> Report | None:
    """Reads a report; None if there is none, or it is something else."""
    try:
        return Report(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _whole_lines(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith(b"\n")]


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
