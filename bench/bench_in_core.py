"""Nothing is swapped: what the warm allocator alone is worth."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench.harness import Bar, Bars, Case, interleave, train

ROUNDS = 3
# What stock NumPy can be told without a manager: malloc then keeps its pages, too.
KEEPS_PAGES = (
    "env",
    f"MALLOC_MMAP_THRESHOLD_={1 << 40}",
    f"MALLOC_TRIM_THRESHOLD_={1 << 40}",
)


def seconds(case: Case, prefix: Sequence[str] = ()) -> float:
    return statistics.median(train(case, prefix).steady_seconds)


@pytest.mark.parametrize(
    "case",
    # Both fill what they keep for later during more than the first iteration.
    [Case("googlenet", 448, 4, iterations=5), Case("resnet50", 448, 2, iterations=5)],
    ids=lambda case: str(case),
)
def test_in_core_is_faster_than_stock_numpy(benchmark: Any, bars: Bars, case: Case) -> None:
    plain = replace(case, memory="stock")
    kept: list[float] = []

    def stock() -> float:
        kept.append(seconds(plain, KEEPS_PAGES))
        return seconds(plain)

    ours, reference = interleave(benchmark, lambda: seconds(case), stock, ROUNDS)
    floor = statistics.median(kept) / statistics.median(reference)
    bars.note(f"in core, {case}: stock NumPy over a malloc that keeps its pages, {floor:.2f}x")
    bars.check(Bar(f"in core, {case}", "s/iteration", ours, reference, "stock NumPy", 0.85))
