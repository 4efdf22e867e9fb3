"""The same limit on memory, kept by swapmem and kept by Linux swapping stock NumPy."""

from __future__ import annotations

import signal
import statistics
from dataclasses import replace
from typing import Any

import pytest

from bench.bench_out_of_core import MARGIN_BYTES, unlimited
from bench.harness import Bar, Bars, Case, RunFailed, interleave, share_of, train
from bench.linux_swap import NotPermitted, limited

CASE = Case("googlenet", 448, 4)
ROUNDS = 2


def test_out_of_core_beats_linux_swap_at_the_same_limit(benchmark: Any, bars: Bars) -> None:
    budget_bytes, label = share_of(unlimited(CASE).stats, 0.40)
    small = train(replace(CASE, insize=224, batch=1, iterations=1))
    limit_bytes = small.rss_before_bytes + budget_bytes + MARGIN_BYTES

    def swapped_by_linux() -> float:
        run = train(replace(CASE, memory="stock"), prefix=prefix)
        return statistics.median(run.steady_seconds)

    def swapped_by_us() -> float:
        run = train(replace(CASE, budget_bytes=budget_bytes))
        return statistics.median(run.steady_seconds)

    try:
        with limited(limit_bytes) as prefix:
            ours, linux = interleave(benchmark, swapped_by_us, swapped_by_linux, ROUNDS)
    except NotPermitted as error:
        bars.note(f"Linux swap in a memory cgroup was not measured: {error}")
        pytest.skip(f"no memory cgroup with swap here: {error}")
    except RunFailed as error:
        if error.status != -signal.SIGKILL:
            raise
        bars.note(f"{CASE}: Linux killed stock NumPy at {label} instead of swapping it")
        pytest.skip("Linux killed stock NumPy at this limit, there is no time to compare with")
    what = f"against Linux swap, {label}, {CASE}"
    bars.check(Bar(what, "s/iteration", ours, linux, "stock NumPy under Linux swap", 1 / 1.5))
