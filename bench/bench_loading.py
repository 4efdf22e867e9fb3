"""Loading batches for training beside decoding alone, both with two workers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench import photographs
from bench.harness import Bar, Bars, interleave
from train.batches import EndlessBatches
from train.dataset import RandomCrops, open_images
from train.dataset_images import open_encoded
from train.prepare.transform import Recode
from train.records import image_record
from train.records.recordio import RecordFile, encode

IMAGES = 512
BATCH = 32
INSIZE = 224
WORKERS = 2
ROUNDS = 9


def test_loading_is_decoding_and_little_else(benchmark: Any, bars: Bars, tmp_path: Path) -> None:
    recode = Recode(short_edge=480, quality=90)
    packed = [recode(photographs.photograph(i)) for i in range(photographs.DIFFERENT)]
    path = tmp_path / "packed.rec"
    with open(path, "wb") as file:
        for i in range(IMAGES):
            file.write(encode(image_record.pack([i % 4], i, packed[i % len(packed)])))
    payloads = [bytes(image_record.unpack(p).image) for p in RecordFile(path).records()]
    mean = np.full((3, 1, 1), 117, np.float32)
    crops = RandomCrops(open_images(path), mean, INSIZE, seed=0)

    def decode(payload: bytes) -> None:
        open_encoded(payload).load()

    with (
        ThreadPoolExecutor(WORKERS) as pool,
        EndlessBatches(crops, BATCH, 0, jobs=WORKERS) as batches,
    ):

        def decoding() -> float:
            begin = time.perf_counter()
            for _ in pool.map(decode, payloads):
                pass
            return IMAGES / (time.perf_counter() - begin)

        def loading() -> float:
            # What was loaded ahead in the meantime; from here on as much is begun as is handed out.
            next(batches)
            begin = time.perf_counter()
            for _ in range(IMAGES // BATCH):
                next(batches)
            return IMAGES / (time.perf_counter() - begin)

        ours, reference = interleave(benchmark, loading, decoding, ROUNDS)
    bars.check(
        Bar(
            f"load batches at insize {INSIZE}, {WORKERS} workers",
            "images/s",
            ours,
            reference,
            "decoding the same JPEGs alone, with as many",
            0.95,
            at_least=True,
        )
    )
