"""The two packed forms, written so that an interruption loses little and leaves no half file."""

import contextlib
import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from swapmem.files import replacing
from train.errors import InputError
from train.imagelist import Row
from train.prepare.journal import Done, Journal, Report
from train.records import recordio

#: After so many images or bytes what was packed is made safe; an interruption loses no more.
_SAFE_IMAGES, _SAFE_BYTES = 1000, 64 << 20

#: After so many bytes the disk is given something to do.
_BEGIN_BYTES = 4 << 20

#: The largest an LMDB may become; address space, not disk. Caffe doubles a small one as need be.
_MAP_BYTES = 1 << 40

#: With less than this left a disk is called full.
_LEAST_BYTES = 1 << 20


class Sink(ABC):
    """A packed file in the making, beside the place where it will be.

    Args:
        path: Where the finished file goes.
        made_of: What decides about its bytes.

    Raises:
        InputError: An interrupted file was made of something else.
        OSError: It cannot be created.
    """

    def __init__(self, path: Path, made_of: dict[str, Any]):
        self.path = path
        self.draft = path.with_name(f".{path.name}.partial")
        self.journal = Journal(path.with_name(f".{path.name}.journal"), made_of)
        self._made_of = made_of
        self._unsafe: list[Done] = []
        self._unsafe_bytes = 0
        # Placed already where an interruption came between that and the report.
        placed = not self.draft.exists() and path.exists()
        try:
            self._open(path if placed else self.draft)
        except BaseException:
            self.journal.close()
            raise

    @property
    def done(self) -> int:
        """How many images of the list are dealt with."""
        return self.journal.done + len(self._unsafe)

    def add(self, row: Row, data: bytes) -> None:
        """Packs an image.

        Raises:
            OSError: The disk is full or broken; what was safe stays so.
        """
        self._unsafe.append(Done(row.key, self._put(row, data)))
        self._unsafe_bytes += len(data)
        if len(self._unsafe) >= _SAFE_IMAGES or self._unsafe_bytes >= _SAFE_BYTES:
            self.save()

    def skip(self, row: Row, reason: str) -> None:
        """Says that an image cannot be read."""
        self._unsafe.append(Done(row.key, -1, row.path, reason))

    def save(self) -> None:
        """Makes safe what was added since the last time.

        Raises:
            OSError: The disk is full or broken; what was safe before stays so.
        """
        end = self._sync()
        self.journal.add(self._unsafe, end)
        self._unsafe = []
        self._unsafe_bytes = 0

    def finish(self) -> Report:
        """Makes the file appear in its place, whole, and a report beside it."""
        self.save()
        self._place()
        journal = self.journal
        report = Report(self._made_of, len(journal.keys), journal.end, journal.unreadable)
        report.save(report_path(self.path))
        journal.close()
        journal.path.unlink()
        return report

    def close(self) -> None:
        """Leaves the file as it is, to be gone on with."""
        self.journal.close()

    @abstractmethod
    def _open(self, path: Path) -> None:
        """Begins the file, or goes on with it after what the journal says is safe."""

    @abstractmethod
    def _put(self, row: Row, data: bytes) -> int:
        """Writes an image and returns where."""

    @abstractmethod
    def _sync(self) -> int:
        """Makes everything safe on the disk and returns where the file ends."""

    @abstractmethod
    def _place(self) -> None:
        """Closes the draft and puts it in its place."""


def report_path(path: Path) -> Path:
    """Returns where the report on a packed file stands."""
    return path.with_name(f"{path.name}.json")


def remove(path: Path) -> None:
    """Removes a packed file, finished or not, with all that stands beside it."""
    hidden = [path.with_name(f".{path.name}.{end}") for end in ("partial", "journal")]
    for file in (report_path(path), path, path.with_suffix(".idx"), *hidden):
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


class RecordSink(Sink):
    """A RecordIO file and its index."""

    def _open(self, path: Path) -> None:
        self._file = open(path, "ab")  # noqa: SIM115  closed by close()
        if os.fstat(self._file.fileno()).st_size < self.journal.end:
            self._file.close()
            raise InputError(
                f"{path}: shorter than {self.journal.path} says; begin anew with --overwrite"
            )
        self._file.truncate(self.journal.end)
        self._begun = self._end = self.journal.end

    def close(self) -> None:
        """Leaves the file as it is, to be gone on with."""
        super().close()
        # The rest of a buffer that found no room on the disk has none now either.
        with contextlib.suppress(OSError):
            self._file.close()

    def _put(self, row: Row, data: bytes) -> int:
        begin = self._end
        self._end += self._file.write(recordio.encode(data))
        if self._end - self._begun >= _BEGIN_BYTES:
            self._begin_writing()
        return begin

    def _begin_writing(self) -> None:
        # Has the kernel write these pages to the disk from now on and forget them then: making
        # them safe does not take long later, and other files are not driven out of memory.
        length = self._end - self._begun
        self._file.flush()
        os.posix_fadvise(self._file.fileno(), self._begun, length, os.POSIX_FADV_DONTNEED)
        self._begun = self._end

    def _sync(self) -> int:
        self._file.flush()
        os.fdatasync(self._file.fileno())
        return self._end

    def _place(self) -> None:
        with replacing(self.path.with_suffix(".idx")) as index:
            for key, offset in zip(self.journal.keys, self.journal.offsets, strict=True):
                index.write(b"%d\t%d\n" % (key, offset))
        self._file.close()
        if self.draft.exists():
            os.rename(self.draft, self.path)


class LmdbSink(Sink):
    """An LMDB folder whose keys are the positions in the list and the paths, as Caffe's are."""

    def _open(self, path: Path) -> None:
        self._environment = _told(path, lambda: lmdb.open(os.fspath(path), map_size=_MAP_BYTES))
        self._transaction = self._environment.begin(write=True)

    def close(self) -> None:
        """Leaves the folder as it is, to be gone on with."""
        super().close()
        # Ends the transaction as well: what was not made safe is not in it.
        self._environment.close()

    def _put(self, row: Row, data: bytes) -> int:
        key = b"%08d_%s" % (self.done, row.path.encode())
        _told(self.path, lambda: self._transaction.put(key, data))
        return self.done

    def _sync(self) -> int:
        _told(self.path, self._transaction.commit)
        self._transaction = self._environment.begin(write=True)
        info, stat = self._environment.info(), self._environment.stat()
        return int((info["last_pgno"] + 1) * stat["psize"])

    def _place(self) -> None:
        self._environment.close()
        if self.draft.exists():
            os.rename(self.draft, self.path)


def _told(path: Path, call: Callable[[], Any]) -> Any:
    """Calls, and raises as an OSError what LMDB says of the disk in words of its own."""
    try:
        return call()
    except lmdb.Error as error:
        # LMDB takes a write that a full disk cut short for a broken disk.
        disk = os.statvfs(path.parent)
        full = disk.f_bavail * disk.f_frsize < _LEAST_BYTES or "No space left" in str(error)
        reason = os.strerror(errno.ENOSPC) if full else str(error).rpartition(": ")[2]
        raise OSError(errno.ENOSPC if full else errno.EIO, reason) from error
