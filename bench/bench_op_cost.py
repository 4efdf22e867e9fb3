"""What announcing an op costs when nothing has to move: the engine, the hooks, and a plan."""

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
PLAN_LIMIT_MICROSECONDS = 5.0
ROUNDS = 15
OPS = 500
# The clock of a shared machine changes within a second: so many turns, and so short, that both see
# the same of it.
SHORT_ROUNDS, SHORT_OPS = 75, 100
# Iterations until a plan is kept, and how many are then measured.
SETTLING, SETTLED = 8, 10


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


def train(ops: int = OPS) -> float:
    """Returns microseconds for one op, half of them forward and half backward."""
    x = Variable(np.ones((4, 1 << 12), np.float32))  # 64 KiB, the smallest block
    begin = time.perf_counter()
    y = x
    for _ in range(ops):
        y = F.relu(y)
    F.sum(y).backward()
    return (time.perf_counter() - begin) / (2 * ops) * 1e6


def differences(ours: list[float], reference: list[float]) -> list[float]:
    """Returns how much more each of ours took than the reference of the same turn."""
    return [max(mine - other, 0.0) for mine, other in zip(ours, reference, strict=True)]


def test_the_hooks_add_microseconds_to_an_op(benchmark: Any, bars: Bars) -> None:
    # Hooks and NumPy's handler belong to the thread that entered the manager: another thread is
    # stock NumPy, in the same process and so at the same minute.
    with (
        ThreadPoolExecutor(1) as stock,
        swapmem.Manager(device="host", device_memory="512MiB"),
    ):
        train(SHORT_OPS)
        stock.submit(train, SHORT_OPS).result()
        ours, reference = interleave(
            benchmark,
            lambda: train(SHORT_OPS),
            lambda: stock.submit(train, SHORT_OPS).result(),
            SHORT_ROUNDS,
        )
    added = differences(ours, reference)
    allowed = [LIMIT_MICROSECONDS] * len(added)
    floor = statistics.median(reference)
    bars.note(f"one small relu, forward or backward, takes {floor:.1f} us on stock NumPy")
    bars.check(Bar("engine and hooks, added to one op", "us", added, allowed, "the bar", 1.0))


def settled(plan: str, budget: str) -> float:
    """Returns microseconds for one op of iterations of which nothing is learnt any more."""
    with swapmem.Manager(device="host", device_memory=budget, plan=plan) as memory:
        for _ in range(SETTLING):
            train()
        before = memory.stats()
        figures = [train() for _ in range(SETTLED)]
        after = memory.stats()
    # The last one is counted as planned when it begins.
    planned = after["planned_iterations"] - before["planned_iterations"]
    assert planned == (0 if plan == "none" else SETTLED)
    assert after["swap_out_count"] == before["swap_out_count"]
    return statistics.median(figures)


def test_following_a_plan_adds_microseconds_to_an_op(benchmark: Any, bars: Bars) -> None:
    # Enough for all of it, and so little that there is a plan.
    tight, ample = "34MiB", "512MiB"
    ours, reference = interleave(
        benchmark, lambda: settled("auto", tight), lambda: settled("none", ample), ROUNDS
    )
    added = differences(ours, reference)
    allowed = [PLAN_LIMIT_MICROSECONDS] * len(added)
    floor = statistics.median(reference)
    bars.note(f"one small relu takes {floor:.1f} us with hooks and no plan")
    bars.check(Bar("following a plan, added to one op", "us", added, allowed, "the bar", 1.0))
