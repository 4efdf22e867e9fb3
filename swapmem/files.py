"""Files that are written whole or not at all; text is compressed where the name says so."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` when the block ends well.

    The bytes go to a hidden file beside `path`; it is on the disk before it is renamed, so that
    a full disk, an exception or a lost machine leaves what stood at `path` as it was.

    Args:
        path: The file to write or replace. Its directory exists.

    Yields:
        A binary file, open for writing.

    Raises:
        OSError: The file cannot be created, written or renamed; `path` is untouched.

    Example:
        >>> with replacing("mean.npy") as file:
        ...     numpy.save(file, mean)
    """
    path = Path(path)
    # Opened by name, not with mkstemp: a result gets the permissions the user's umask asks for.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(draft, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file whole or not at all, see `replacing`.

    Args:
        path: The file to write or replace; compressed if its name ends in ".gz". Its directory
            exists.
        text: All of it.

    Raises:
        OSError: The file cannot be created, written or renamed; `path` is untouched.

    Example:
        >>> write_text("run.json.gz", json.dumps(content))
    """
    path = Path(path)
    content = text.encode()
    if _is_gzip(path):
        # No time in it: equal contents are equal files.
        content = gzip.compress(content, mtime=0)
    with replacing(path) as file:
        file.write(content)


def read_text(path: str | os.PathLike[str]) -> str:
    """Reads a text file that may be compressed.

    Raises:
        OSError: It cannot be read, or its name ends in ".gz" and it was not written by gzip.
        EOFError: It is compressed, and its end is missing.
        UnicodeDecodeError: It is no text.
    """
    content = Path(path).read_bytes()
    return (gzip.decompress(content) if _is_gzip(Path(path)) else content).decode()


def _is_gzip(path: Path) -> bool:
    return path.name.endswith(".gz")
