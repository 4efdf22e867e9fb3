"""One training run in a process of its own: ``python -m bench.child '{"arch": ...}'``.

Prints what it measured as one line of JSON, see bench.harness.Training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import chainer
import numpy as np

import swapmem
import swapmem.chainer
from bench.harness import Case, Training
from train.models import ARCHITECTURES

CLASSES = 1000


def rss_bytes(field: str) -> int:
    """Returns VmRSS or VmHWM of this process, in bytes.

    getrusage's maximum will not do: it starts at the parent's, which lives on through exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def run(case: Case) -> Training:
    """Trains as the case says and returns what was measured."""
    rss_imports_bytes = rss_bytes("VmRSS")
    memory = (
        contextlib.nullcontext()
        if case.memory == "stock"
        else swapmem.Manager(
            device="host", device_memory=case.budget_bytes, spill_dir=case.spill_dir
        )
    )
    seconds = []
    with memory as manager:
        np.random.seed(case.seed)
        random = np.random.default_rng(case.seed)
        model = ARCHITECTURES[case.arch](insize=case.insize, classes=CLASSES)
        optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(model)
        for _ in range(case.iterations):
            # Labels that never change would drive the loss to zero, and the arithmetic to
            # denormal numbers, which take many times as long.
            images = random.standard_normal(
                (case.batch, 3, case.insize, case.insize), dtype=np.float32
            )
            labels = random.integers(CLASSES, size=case.batch, dtype=np.int32)
            begin = time.perf_counter()
            optimizer.update(model, images, labels)
            seconds.append(time.perf_counter() - begin)
        stats: dict[str, Any] = manager.stats() if manager is not None else {}
        rss_peak_bytes = rss_bytes("VmHWM")
        weights = digest(model)
    return Training(seconds, rss_imports_bytes, rss_peak_bytes, weights, stats)


def digest(model: chainer.Chain) -> str:
    """Returns the SHA-256 of everything a snapshot of the model would hold."""
    saver = chainer.serializers.DictionarySerializer()
    saver.save(model)
    sha = hashlib.sha256()
    for name, array in sorted(saver.target.items()):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()


if __name__ == "__main__":
    print(json.dumps(asdict(run(Case(**json.loads(sys.argv[1]))))))
