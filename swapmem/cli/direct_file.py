"""Plain O_DIRECT reads and writes of an unnamed file: what a directory's disk gives to anyone."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

THREADS = 4
CHUNK_BYTES = 4 << 20

Direction = Literal["write", "read"]


class Job(NamedTuple):
    """Bytes to move between memory and the file.

    Attributes:
        direction: "write" to the file or "read" from it.
        memory: whole pages at a page boundary.
        offset: in the file, a multiple of the page.
    """

    direction: Direction
    memory: NDArray[np.uint64]
    offset: int


def pages(size_bytes: int) -> NDArray[np.uint64]:
    """Makes ordinary memory fit for O_DIRECT: private, at a page boundary, on huge pages if any."""
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Linux without transparent huge pages refuses, and it is only speed.
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint64)


class DirectFile:
    """A file without a name in a directory; gone when it is closed, and however the process ends.

    Args:
        directory: where; the file takes what is written to it.

    Attributes:
        direct: whether the file system takes O_DIRECT; else copies go through the page cache.

    Raises:
        OSError: the directory cannot hold a file.
    """

    def __init__(self, directory: str) -> None:
        self.direct = True
        try:
            self._file = _open_unnamed(directory, os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.direct = False
            self._file = _open_unnamed(directory, 0)
        # As many threads each way.
        self._pool = ThreadPoolExecutor(2 * THREADS, thread_name_prefix="direct")

    def __enter__(self) -> DirectFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Before the file: its number may be another file's at once.
        self._pool.shutdown(cancel_futures=True)
        os.close(self._file)

    def reserve(self, size_bytes: int) -> None:
        """Has the file system give out the space now, where it can.

        Raises:
            OSError: there is not that much.
        """
        try:
            os.posix_fallocate(self._file, 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise

    def move(self, jobs: Sequence[Job], chunk_bytes: int = CHUNK_BYTES) -> float:
        """Moves all jobs at once, each with a few threads, and waits for them.

        Args:
            jobs: at most two.
            chunk_bytes: of one system call.

        Returns:
            Seconds from the first call to the end of the last.

        Raises:
            OSError: a call failed.
        """
        begin = time.perf_counter()
        lanes = [
            self._pool.submit(self._lane, job, lane, chunk_bytes)
            for job in jobs
            for lane in range(THREADS)
        ]
        for lane in lanes:
            lane.result()
        return time.perf_counter() - begin

    def _lane(self, job: Job, lane: int, chunk_bytes: int) -> None:
        memory = job.memory.data.cast("B")
        for start in range(lane * chunk_bytes, len(memory), THREADS * chunk_bytes):
            chunk = memory[start : start + chunk_bytes]
            done = 0
            while done < len(chunk):
                at = job.offset + start + done
                if job.direction == "write":
                    moved = os.pwritev(self._file, [chunk[done:]], at)
                else:
                    moved = os.preadv(self._file, [chunk[done:]], at)
                if moved == 0:
                    raise OSError(errno.EIO, f"the {job.direction} at {at} ended early")
                done += moved


def _open_unnamed(directory: str, extra_flags: int) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | extra_flags
    try:
        return os.open(directory, flags | os.O_TMPFILE | os.O_EXCL, 0o600)
    except OSError as error:
        # Without O_TMPFILE the file system sees a directory that is opened for writing.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    file, name = tempfile.mkstemp(prefix="swapmem-", dir=directory)
    try:
        return os.open(name, flags)
    finally:
        os.close(file)
        os.unlink(name)
