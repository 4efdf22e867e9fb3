"""Packing photographs with two threads beside a plain Pillow loop, and the memory it takes."""

from __future__ import annotations

import io
import itertools
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench import photographs
from bench.harness import ROOT, Bar, Bars, interleave
from train.imagelist import lst_rows
from train.prepare.pack import MakeRecord, pack
from train.prepare.sinks import RecordSink, remove
from train.prepare.transform import Recode
from train.prepare.tree import open_tree
from train.records import image_record
from train.records.recordio import RecordFile

IMAGES = 10_000
THREADS = 2
ROUNDS = 3
SHORT_EDGE, QUALITY = 480, 90

#: Packs a list and says how much memory the process had at most, in bytes.
CHILD = f"""
import resource, sys
from train.prepare.commands import prepare
try:
    prepare(["pack", *sys.argv[1:], "--resize", "{SHORT_EDGE}", "--quality", "{QUALITY}",
             "--threads", "{THREADS}", "--overwrite"])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs.write(tmp_path_factory.mktemp("photographs"), IMAGES)


def plain_loop(listing: Path, target: Path, part: int = 0, parts: int = 1) -> None:
    """Does the same without threads, index, checks or a way to go on: bytes behind bytes.

    Args:
        listing: the images.
        target: where to.
        part: which of several loops this is, each of which takes every so many-th image.
        parts: how many there are.
    """
    with open(target, "wb") as file:
        for row in itertools.islice(lst_rows(listing), part, None, parts):
            with Image.open(listing.parent / row.path) as opened:
                image = opened.convert("RGB")
            width, height = image.size
            if height > width:
                size = SHORT_EDGE, height * SHORT_EDGE // width
            else:
                size = width * SHORT_EDGE // height, SHORT_EDGE
            out = io.BytesIO()
            image.resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", quality=QUALITY)
            file.write(out.getvalue())


def wait_for_all(ready: Barrier) -> None:
    """Begins a process: with all imports done, and not before the others are."""
    ready.wait()


def test_two_threads_pack_almost_twice_as_fast_as_a_plain_loop(
    benchmark: Any, bars: Bars, listing: Path, tmp_path: Path
) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed.rec"
    tree = open_tree(listing.parent)
    make = MakeRecord(Recode(short_edge=SHORT_EDGE, quality=QUALITY))

    ceiling: list[float] = []

    def reference() -> float:
        # What the machine itself can do with two processors: two such loops that share nothing.
        processes = get_context("forkserver")
        ready = processes.Barrier(THREADS + 1)
        with ProcessPoolExecutor(THREADS, processes, wait_for_all, (ready,)) as pool:
            for _ in range(THREADS):
                pool.submit(int)  # each has a process begun
            wait_for_all(ready)
            begin = time.perf_counter()
            loops = [
                pool.submit(plain_loop, listing, tmp_path / f"half {part}", part, THREADS)
                for part in range(THREADS)
            ]
            for loop in loops:
                loop.result()
            ceiling.append(IMAGES / (time.perf_counter() - begin))
        begin = time.perf_counter()
        plain_loop(listing, plain)
        return IMAGES / (time.perf_counter() - begin)

    def ours() -> float:
        remove(packed)
        begin = time.perf_counter()
        report = pack(listing, tree, packed, RecordSink, make, THREADS, lambda done, total: None)
        seconds = time.perf_counter() - begin
        assert report.images == IMAGES
        return IMAGES / seconds

    rates, loop_rates = interleave(benchmark, ours, reference, ROUNDS)
    most = statistics.median(ceiling) / statistics.median(loop_rates)
    bars.note(f"pack {IMAGES:,} JPEGs: two plain loops in processes of their own, {most:.2f}x")
    with open(plain, "rb") as file:
        for payload in RecordFile(packed).records():
            image = image_record.unpack(payload).image
            assert file.read(len(image)) == image
    bars.check(
        Bar(
            f"pack {IMAGES:,} JPEGs, short edge {SHORT_EDGE}, quality {QUALITY}, 2 threads",
            "images/s",
            rates,
            loop_rates,
            "a plain Pillow loop that writes the same images",
            1.8,
            at_least=True,
        )
    )


def test_memory_does_not_grow_with_the_images(
    benchmark: Any, bars: Bars, listing: Path, tmp_path: Path
) -> None:
    def peak(count: int) -> float:
        part = tmp_path / f"{count}.lst"
        part.write_text("".join(listing.read_text().splitlines(keepends=True)[:count]))
        command = [sys.executable, "-c", CHILD, str(part), str(listing.parent)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(run.stdout.splitlines()[-1]) / (1 << 20)

    ours, reference = interleave(benchmark, lambda: peak(IMAGES), lambda: peak(IMAGES // 10), 2)
    bars.check(
        Bar(
            f"pack {IMAGES:,} JPEGs, peak memory of the process",
            "MiB",
            ours,
            reference,
            f"that for {IMAGES // 10:,}",
            1.05,
        )
    )
