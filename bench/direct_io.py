"""The floor of every transfer: what the file system gives to plain O_DIRECT, by fio or a loop."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

Direction = Literal["write", "read"]
MIB = 1 << 20


class Setting(NamedTuple):
    """One way of asking fio for large transfers."""

    engine: str
    chunk_bytes: int
    depth: int
    jobs: int = 1

    def __str__(self) -> str:
        chunk = f"{self.chunk_bytes // MIB} MiB"
        return f"fio {self.engine}, {chunk}, depth {self.depth}, jobs {self.jobs}"


# Transfers from huge pages are up to twice as fast; with this fio's buffers lie in some.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SETTINGS = [
    *(
        Setting(engine, chunk, depth)
        for engine, chunk, depth in product(("libaio", "io_uring"), (1 * MIB, 4 * MIB), (4, 16))
    ),
    Setting("psync", 1 * MIB, 1, jobs=4),
    Setting("psync", 4 * MIB, 1, jobs=4),
]


class Fio:
    """fio at the best of some settings for large sequential transfers of one file."""

    def __init__(self, file: Path, size_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes
        # Blocks are given out by the file system now, not in the first measurement.
        self._run("write", Setting("psync", 4 * MIB, 1))
        self.best: dict[str, Setting] = {}

    def rate(self, direction: Direction) -> float:
        """Returns bytes per second; the first call for a direction picks its setting."""
        if direction not in self.best:
            turns = [[self._run(direction, setting) for setting in SETTINGS] for _ in range(3)]
            rates = [statistics.median(rates) for rates in zip(*turns, strict=True)]
            self.best[direction] = SETTINGS[rates.index(max(rates))]
        return self._run(direction, self.best[direction])

    def describe(self, direction: Direction) -> str:
        return str(self.best[direction])

    def _run(self, direction: Direction, setting: Setting) -> float:
        """Returns bytes per second, 0 if this machine's fio or kernel cannot do it."""
        share_bytes = self._size_bytes // setting.jobs
        run = subprocess.run(
            [
                *("fio", "--name=floor", "--output-format=json", "--direct=1", "--overwrite=1"),
                f"--filename={self._file}",
                f"--size={share_bytes}",
                f"--offset_increment={share_bytes}",
                f"--numjobs={setting.jobs}",
                *("--thread", "--group_reporting"),
                f"--rw={direction}",
                f"--ioengine={setting.engine}",
                f"--bs={setting.chunk_bytes}",
                f"--iodepth={setting.depth}",
            ],
            capture_output=True,
            text=True,
            env=os.environ | HUGE_PAGES,
        )
        if run.returncode != 0:
            return 0.0
        # Engines that warn do so ahead of the JSON.
        (job,) = json.loads(run.stdout[run.stdout.index("{") :])["jobs"]
        return float(job[direction]["bw_bytes"])


class Loop:
    """A few threads that write and read 4 MiB at a time, where fio is not installed."""

    threads = 4
    chunk_bytes = 4 * MIB

    def __init__(self, file: Path, size_bytes: int) -> None:
        self._file = file
        self._offsets = range(0, size_bytes, self.chunk_bytes)
        self._buffers = [mmap.mmap(-1, self.chunk_bytes) for _ in range(self.threads)]
        for buffer in self._buffers:
            buffer.write(os.urandom(self.chunk_bytes))
        self.rate("write")

    def rate(self, direction: Direction) -> float:
        """Returns bytes per second."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)

        def lane(index: int) -> None:
            for offset in self._offsets[index :: self.threads]:
                if direction == "write":
                    os.pwritev(fd, [self._buffers[index]], offset)
                else:
                    os.preadv(fd, [self._buffers[index]], offset)

        try:
            with ThreadPoolExecutor(self.threads) as pool:
                begin = time.perf_counter()
                list(pool.map(lane, range(self.threads)))
                return len(self._offsets) * self.chunk_bytes / (time.perf_counter() - begin)
        finally:
            os.close(fd)

    def describe(self, direction: Direction) -> str:
        return f"an O_DIRECT loop of {self.threads} threads (fio is not installed)"


def floor(file: Path, size_bytes: int) -> Fio | Loop:
    """Returns the best that can be had to compare with, over a file that will be created."""
    return Fio(file, size_bytes) if shutil.which("fio") else Loop(file, size_bytes)
