"""Text files that are written whole or not at all, compressed where their name says so."""

from __future__ import annotations

import gzip
import os
from pathlib import Path


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file whole or not at all.

    The text goes to a hidden file beside `path`; it is on the disk before it is renamed, so that a
    full disk, an exception or a lost machine leaves what stood at `path` as it was.

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
    # Opened by name, not with mkstemp: a result gets the permissions the user's umask asks for.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


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
