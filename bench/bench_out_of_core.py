"""Out of core against stock NumPy in core: time, weights, and the resident set."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from bench.harness import Bar, Bars, Case, interleave, share_of, train
from train.measure import Measurement

ROUNDS = 2
MARGIN_BYTES = 64 << 20
CASES = [Case("googlenet", 448, 4), Case("googlenet", 896, 2), Case("resnet50", 448, 4)]


@cache
def unlimited(case: Case) -> Measurement:
    """The same run without a budget: its peak, its largest op and its weights."""
    return train(case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case))
@pytest.mark.parametrize(("share", "limit"), [(0.40, 1.00), (0.25, 1.10)], ids=["40%", "25%"])
def test_out_of_core_keeps_up_with_stock_numpy_in_core(
    benchmark: Any, bars: Bars, case: Case, share: float, limit: float
) -> None:
    budget_bytes, label = share_of(unlimited(case).stats, share)
    runs: list[Measurement] = []

    def out_of_core() -> float:
        runs.append(train(replace(case, budget_bytes=budget_bytes)))
        return statistics.median(runs[-1].steady_seconds)

    ours, stock = interleave(
        benchmark,
        ours=out_of_core,
        reference=lambda: statistics.median(train(replace(case, memory="stock")).steady_seconds),
        rounds=ROUNDS,
    )
    assert {run.weights for run in runs} == {unlimited(case).weights}
    for run in runs:
        assert run.stats["swap_out_bytes"] > 0
        assert run.stats["peak_charged_bytes"] <= budget_bytes
    allowed = [float(run.rss_before_bytes + budget_bytes + MARGIN_BYTES) for run in runs]
    peak = Bar(
        f"peak RSS at {label}, {case}",
        "B",
        [float(run.rss_peak_bytes) for run in runs],
        allowed,
        "imports + budget + 64 MiB",
        1.0,
    )
    time = Bar(f"out of core at {label}, {case}", "s/iteration", ours, stock, "stock NumPy", limit)
    # Both go into the table, whichever fails.
    try:
        bars.check(peak)
    finally:
        bars.check(time)
