"""One training run in a process of its own: ``python -m bench.child '{"arch": ...}'``.

Prints what it measured as one line of JSON, see train.measure.Measurement.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from bench.harness import Case
from train.measure import Measurement, measure, memory_of
from train.models import ARCHITECTURES

CLASSES = 1000

Batch = list[tuple[NDArray[np.float32], np.int32]]


def random_batches(case: Case) -> Iterator[Batch]:
    """Yields images of noise without end.

    Labels are random too: constant ones would drive the loss to zero, and the arithmetic to
    denormal numbers, which take many times as long.
    """
    random = np.random.default_rng(case.seed)
    shape = (3, case.insize, case.insize)
    while True:
        yield [
            (random.standard_normal(shape, dtype=np.float32), np.int32(random.integers(CLASSES)))
            for _ in range(case.batch)
        ]


def run(case: Case, batches: Iterator[Batch] | None = None) -> Measurement:
    """Trains as the case says, on these batches or on random ones; returns what was measured."""
    with memory_of(case.memory, case.budget_bytes, plan=case.plan) as memory:
        measurement, _ = measure(
            lambda: ARCHITECTURES[case.arch](case.insize, CLASSES),
            batches or random_batches(case),
            case.iterations,
            case.seed,
            memory,
        )
    return measurement


if __name__ == "__main__":
    print(json.dumps(asdict(run(Case(**json.loads(sys.argv[1]))))))
