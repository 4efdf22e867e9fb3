"""The directory that swapped-out bytes go to: what it is, and how fast."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

from swapmem import _core
from swapmem.cli.direct_file import CHUNK_BYTES, DirectFile, Job, pages
from swapmem.cli.finding import Finding
from swapmem.cli.pattern import Pattern, WrongBytes
from swapmem.cli.site import file_system, in_memory
from swapmem.sizes import format_bytes

_SECTION = "spill directory"
_LITTLE_BYTES = 1 << 30
_PIECE_BYTES = 32 << 20
_MOST_BYTES = 512 << 20
# Of what is free, on the disk and in RAM.
_SHARE = 0.05
_SECONDS_EACH_WAY = 0.8
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre", "ceph", "glusterfs")


def check(directory: str, default: bool) -> Iterator[Finding]:
    """Looks at the directory, and writes and reads a little there; nothing is left behind.

    Args:
        directory: which.
        default: whether nobody named it.
    """
    origin = "the default, see TMPDIR" if default else "as given"
    problem = unusable(directory)
    if problem is not None:
        yield Finding(
            _SECTION, "path", "problem", problem, "name another one: spill_dir, --spill-dir"
        )
        return
    yield Finding(_SECTION, "path", "ok", f"{directory} ({origin})")
    kind = file_system(directory)
    yield _kind(kind)
    disk = os.statvfs(directory)
    free_bytes = disk.f_bavail * disk.f_frsize
    yield _room(free_bytes)
    memory_bytes = _core.available_memory_bytes() // (2 if in_memory(kind) else 1)
    size_bytes = min(_MOST_BYTES, int(_SHARE * min(free_bytes, memory_bytes)))
    size_bytes = size_bytes // _PIECE_BYTES * _PIECE_BYTES
    try:
        with DirectFile(directory) as file:
            yield _direct(file.direct)
            if size_bytes == 0:
                yield Finding(
                    _SECTION, "rate", "note", "not measured: too little room to write a sample"
                )
            else:
                yield _rate(file, size_bytes)
    except WrongBytes as error:
        yield Finding(_SECTION, "rate", "problem", f"{error}: this disk or memory loses data")
    except OSError as error:
        yield Finding(_SECTION, "rate", "problem", f"writing there failed: {error.strerror}")


def unusable(directory: str) -> str | None:
    """Returns why no file can be made in a directory, None if one can."""
    if not os.path.lexists(directory):
        return f"{directory} does not exist"
    if not os.path.isdir(directory):
        return f"{directory} is no directory"
    try:
        with DirectFile(directory) as file:
            file.reserve(1 << 20)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{directory} is full: {error.strerror}"
        return f"{directory} cannot be written to: {error.strerror}"
    return None


def _kind(kind: str) -> Finding:
    if in_memory(kind):
        return Finding(
            _SECTION,
            "file system",
            "note",
            f"{kind} lies in RAM: what is swapped out there still takes memory",
            "name a directory on a disk",
        )
    if kind in _NETWORK:
        return Finding(
            _SECTION,
            "file system",
            "note",
            f"{kind}: a network file system works and is slow",
            "name a directory on a local disk",
        )
    return Finding(_SECTION, "file system", "ok", kind or "unknown")


def _room(free_bytes: int) -> Finding:
    text = f"{format_bytes(free_bytes)} free"
    if free_bytes < _LITTLE_BYTES:
        return Finding(
            _SECTION, "room", "note", text, "a run fails when what it swaps out does not fit"
        )
    return Finding(_SECTION, "room", "ok", text)


def _direct(direct: bool) -> Finding:
    if direct:
        return Finding(_SECTION, "O_DIRECT", "ok", "accepted")
    return Finding(
        _SECTION,
        "O_DIRECT",
        "note",
        "refused: copies go through the page cache, which takes memory outside the budget",
        "ext4 and xfs accept it",
    )


def _rate(file: DirectFile, size_bytes: int) -> Finding:
    """Writes for a while, reads for a while, and looks at every byte that was read."""
    memory = pages(size_bytes)
    pattern = Pattern()
    pattern.fill(memory, 1)
    words = _PIECE_BYTES // 8

    def move(direction: str, limit_bytes: int) -> tuple[int, float]:
        seconds, done = 0.0, 0
        end = time.perf_counter() + _SECONDS_EACH_WAY
        while done < limit_bytes and (done == 0 or time.perf_counter() < end):
            piece = memory[done // 8 : done // 8 + words]
            job = Job("write" if direction == "write" else "read", piece, done)
            seconds += file.move([job], CHUNK_BYTES)
            done += _PIECE_BYTES
        return done, seconds

    written, write_seconds = move("write", size_bytes)
    memory.fill(0)
    read, read_seconds = move("read", written)
    pattern.check(memory[: read // 8], 1)
    text = (
        f"{written / write_seconds / 1e9:.2f} GB/s written, "
        f"{read / read_seconds / 1e9:.2f} GB/s read, bytes verified "
        f"(a sample of {format_bytes(written)}"
    )
    if not file.direct:
        return Finding(_SECTION, "rate", "note", f"{text}, through the page cache)")
    return Finding(_SECTION, "rate", "ok", f"{text})")
