"""Files that are either the old one or the whole new one, never something in between."""

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
