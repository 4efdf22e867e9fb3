"""What announcing an op costs when nothing has to move: the engine alone, and with the hooks."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import chainer.functions as F
import numpy as np
from chainer import Variable

import swapmem
import swapmem.chainer
from bench.harness import Bar, Bars, interleave

LIMIT_MICROSECONDS = 20.0
ROUNDS = 15
OPS = 500


def test_the_engine_opens_and_closes_an_op_in_microseconds(benchmark: Any, bars: Bars) -> None:
    with swapmem.Manager(device="host", device_memory="256MiB") as memory:
        arrays = [np.zeros(1 << 18, np.uint8) for _ in range(8)]
        addresses = [array.ctypes.data for array in arrays]

        def engine() -> float:
            begin = time.perf_counter()
            for _ in range(OPS):
                memory.engine.begin_op("op", addresses)
                memory.engine.end_op()
            return (time.perf_counter() - begin) / OPS * 1e6

        ours, allowed = interleave(benchmark, engine, lambda: LIMIT_MICROSECONDS, ROUNDS)
    bars.check(Bar("engine, one op of 8 blocks", "us", ours, allowed, "the bar", 1.0))


def train() -> float:
    """Returns microseconds for one op, half of them forward and half backward."""
    x = Variable(np.ones((4, 1 << 12), np.float32))  # 64 KiB, the smallest block
    begin = time.perf_counter()
    y = x
    for _ in range(OPS):
        y = F.relu(y)
    F.sum(y).backward()
    return (time.perf_counter() - begin) / (2 * OPS) * 1e6


def test_the_hooks_add_microseconds_to_an_op(benchmark: Any, bars: Bars) -> None:
    # Hooks and NumPy's handler belong to the thread that entered the manager: another thread is
    # stock NumPy, in the same process and so at the same minute.
    with (
        ThreadPoolExecutor(1) as stock,
        swapmem.Manager(device="host", device_memory="512MiB"),
    ):
        train()
        stock.submit(train).result()
        ours, reference = interleave(benchmark, train, lambda: stock.submit(train).result(), ROUNDS)
    floor = statistics.median(reference)
    added = [max(figure - floor, 0.0) for figure in ours]
    allowed = [LIMIT_MICROSECONDS] * len(added)
    bars.note(f"one small relu, forward or backward, takes {floor:.1f} us on stock NumPy")
    bars.check(Bar("engine and hooks, added to one op", "us", added, allowed, "the bar", 1.0))
