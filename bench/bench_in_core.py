"""Nothing is swapped: what the warm allocator alone is worth."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import pytest

from bench.harness import Bar, Bars, Case, interleave, train

ROUNDS = 3


@pytest.mark.parametrize(
    "case",
    # Both fill what they keep for later during more than the first iteration.
    [Case("googlenet", 448, 4, iterations=5), Case("resnet50", 448, 2, iterations=5)],
    ids=lambda case: str(case),
)
def test_in_core_is_faster_than_stock_numpy(benchmark: Any, bars: Bars, case: Case) -> None:
    ours, stock = interleave(
        benchmark,
        ours=lambda: statistics.median(train(case).steady_seconds),
        reference=lambda: statistics.median(train(replace(case, memory="stock")).steady_seconds),
        rounds=ROUNDS,
    )
    bars.check(Bar(f"in core, {case}", "s/iteration", ours, stock, "stock NumPy", 0.85))
