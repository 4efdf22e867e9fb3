"""Reading packed records beside reading the bytes of their file; no image is decoded.

The pages of the file are dropped from memory before each turn: what does not fit into memory is
what is packed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from bench import photographs
from bench.harness import Bar, Bars, interleave
from train.dataset import open_images
from train.prepare.transform import Recode
from train.records import datum, image_record
from train.records.lmdb_file import LmdbFile
from train.records.recordio import RecordFile, encode

TOTAL_BYTES = 1 << 30
CHUNK_BYTES = 1 << 22
PAGE_BYTES = 4096
ROUNDS = 7
RANDOM_READS = 2000


@pytest.fixture(scope="module")
def packed() -> list[bytes]:
    """Photographs as they are packed for training."""
    recode = Recode(short_edge=480, quality=90)
    return [recode(photographs.photograph(i)) for i in range(16)]


def write_records(path: Path, packed: list[bytes], count: int) -> None:
    with open(path, "wb") as file, open(path.with_suffix(".idx"), "w") as index:
        for key in range(count):
            index.write(f"{key}\t{file.tell()}\n")
            file.write(encode(image_record.pack([key % 4], key, packed[key % len(packed)])))


def write_lmdb(path: Path, packed: list[bytes], count: int) -> None:
    with (
        lmdb.open(os.fspath(path), map_size=4 * TOTAL_BYTES) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key in range(count):
            value = datum.Datum(packed[key % len(packed)], key % 4, encoded=True)
            transaction.put(b"%08d_%d.jpg" % (key, key), datum.encode(value))


def drop(path: Path) -> None:
    """Has the next reader fetch the file from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def rate(path: Path, pieces: Callable[[], Iterator[Any]]) -> float:
    """Returns bytes per second; of each piece every page is looked at, for some are mapped."""
    drop(path)
    total = 0
    begin = time.perf_counter()
    for piece in pieces():
        total += len(piece)
        bytes(memoryview(piece)[::PAGE_BYTES])
    return total / (time.perf_counter() - begin) / 1e9


def records(path: Path) -> Iterator[memoryview]:
    for payload in RecordFile(path).records():
        yield image_record.unpack(payload).image


def datums(path: Path) -> Iterator[Any]:
    for value in LmdbFile(path).values():
        yield datum.decode(value).data


@pytest.mark.parametrize("kind", ["RecordIO", "LMDB"])
def test_packed_images_are_read_as_fast_as_their_file(
    benchmark: Any, bars: Bars, packed: list[bytes], tmp_path: Path, kind: str
) -> None:
    count = TOTAL_BYTES // (sum(map(len, packed)) // len(packed))
    if kind == "RecordIO":
        file = tmp_path / "packed.rec"
        write_records(file, packed, count)
        read = lambda: records(file)  # noqa: E731
    else:
        write_lmdb(tmp_path / "lmdb", packed, count)
        file = tmp_path / "lmdb" / "data.mdb"
        read = lambda: datums(tmp_path / "lmdb")  # noqa: E731
    ours, reference = interleave(
        benchmark, lambda: rate(file, read), lambda: rate(file, lambda: chunks(file)), ROUNDS
    )
    bars.note(f"{kind}: {count} images of {np.mean([len(p) for p in packed]) / 1000:.0f} kB")
    bars.check(
        Bar(
            f"read {kind} in order, from the disk",
            "GB/s",
            ours,
            reference,
            f"reading the file, {CHUNK_BYTES >> 20} MiB at a time",
            0.9,
            at_least=True,
        )
    )


def test_a_random_record_takes_as_long_in_a_large_file_as_in_a_small_one(
    benchmark: Any, bars: Bars, tmp_path: Path
) -> None:
    small_images = [bytes([i]) * 4096 for i in range(16)]
    files = {count: tmp_path / f"{count}.rec" for count in (10_000, 100_000)}
    sources = {}
    for count, path in files.items():
        write_records(path, small_images, count)
        sources[count] = open_images(path)

    def microseconds(count: int) -> float:
        images = sources[count]
        # As many different places in both, in more memory than the processor caches in both.
        places = np.random.default_rng(0).choice(count, 1000, replace=False)
        begin = time.perf_counter()
        for _ in range(RANDOM_READS // 1000):
            for index in places.tolist():
                images.read(index)
        return (time.perf_counter() - begin) / RANDOM_READS * 1e6

    small, large = files
    ours, reference = interleave(
        benchmark, lambda: microseconds(large), lambda: microseconds(small), 15
    )
    bars.check(
        Bar(
            f"read a random record of {large:,} through the index",
            "us",
            ours,
            reference,
            f"one of {small:,}",
            1.25,
        )
    )
