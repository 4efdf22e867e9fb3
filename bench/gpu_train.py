"""One training run on a GPU in a process of its own: ``python -m bench.gpu_train '{"arch": ...}'``.

Prints what it measured as one line of JSON, see GpuRun.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

import swapmem
import swapmem.chainer
from bench.child import CLASSES, random_batches
from bench.harness import Case
from train.measure import digest
from train.models import ARCHITECTURES

# What the driver and the libraries take beside the arrays, when memory is made scarce.
_SPARE_BYTES = 512 << 20


@dataclass(frozen=True)
class GpuCase:
    """What to train, and in which memory.

    Attributes:
        arch: a key of train.models.ARCHITECTURES.
        insize: height and width of the images in pixels.
        batch: images an iteration.
        memory: "cupy" is CuPy as it comes; "swapmem" a manager; "managed" CuPy's managed memory on
            a device that has no more than the budget left.
        budget_bytes: None leaves the manager's at its default.
        host_bytes: pinned memory of the manager; None leaves it at its default.
        iterations: how many updates.
        seed: of weights, images, labels and dropout.
    """

    arch: str
    insize: int
    batch: int
    memory: Literal["cupy", "swapmem", "managed"]
    budget_bytes: int | None = None
    host_bytes: int | None = None
    iterations: int = 4
    seed: int = 0


@dataclass(frozen=True)
class GpuRun:
    """What a run took.

    Attributes:
        seconds: of each iteration, until the device had nothing left to do.
        weights: SHA-256 over names and values of all that a snapshot of the model holds.
        pool_bytes: what CuPy's pool took from the device; 0 with a manager.
        stats: ``Manager.stats()`` after the last iteration; empty without a manager.
    """

    seconds: list[float]
    weights: str
    pool_bytes: int
    stats: dict[str, Any]


def carry_out(case: GpuCase) -> GpuRun:
    """Trains with momentum and returns what was measured."""
    import chainer
    import cupy

    # The same sums in the same order each time: weights can be compared bit for bit.
    chainer.config.cudnn_deterministic = True
    chainer.config.autotune = False
    device = chainer.get_device("@cupy:0")
    device.use()
    with _memory(case, cupy) as (memory, pool):
        np.random.seed(case.seed)
        cupy.random.seed(case.seed)
        model: Any = ARCHITECTURES[case.arch](case.insize, CLASSES)
        model.to_device(device)
        optimizer = chainer.optimizers.MomentumSGD(lr=0.01, momentum=0.9).setup(model)
        batches = random_batches(Case(case.arch, case.insize, case.batch, seed=case.seed))
        seconds = []
        for _ in range(case.iterations):
            batch = next(batches)
            cupy.cuda.Device().synchronize()
            begin = time.perf_counter()
            images, labels = chainer.dataset.concat_examples(batch, device)
            optimizer.update(model, images, labels)
            cupy.cuda.Device().synchronize()
            seconds.append(time.perf_counter() - begin)
        stats = memory.stats() if memory is not None else {}
        return GpuRun(seconds, digest(model), pool.total_bytes() if pool is not None else 0, stats)


@contextlib.contextmanager
def _memory(case: GpuCase, cupy: Any) -> Iterator[tuple[swapmem.Manager | None, Any]]:
    if case.memory == "swapmem":
        with swapmem.Manager(
            device="cuda:0", device_memory=case.budget_bytes, host_memory=case.host_bytes
        ) as memory:
            yield memory, None
        return
    if case.memory == "cupy":
        yield None, cupy.get_default_memory_pool()
        return
    assert case.budget_bytes is not None
    free_bytes, _ = cupy.cuda.runtime.memGetInfo()
    ballast = cupy.cuda.alloc(max(free_bytes - case.budget_bytes - _SPARE_BYTES, 0))
    pool = cupy.cuda.MemoryPool(cupy.cuda.malloc_managed)
    with cupy.cuda.using_allocator(pool.malloc):
        yield None, pool
    del ballast


if __name__ == "__main__":
    print(json.dumps(asdict(carry_out(GpuCase(**json.loads(sys.argv[1]))))))
