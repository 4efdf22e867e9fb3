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


def seconds(case: Case, faults: list[int], prefix: Sequence[str] = ()) -> float:
    run = train(case, prefix)
    faults += run.page_faults[1:]
    return statistics.median(run.steady_seconds)


@pytest.mark.parametrize(
    "case",
    # Both fill what they keep for later during more than the first iteration.
    [Case("googlenet", 448, 4, iterations=5), Case("resnet50", 448, 2, iterations=5)],
    ids=lambda case: str(case),
)
def test_in_core_is_faster_than_stock_numpy(benchmark: Any, bars: Bars, case: Case) -> None:
    plain = replace(case, memory="stock")
    kept: list[float] = []
    our_faults: list[int] = []
    kept_faults: list[int] = []
    stock_faults: list[int] = []

    def stock() -> float:
        kept.append(seconds(plain, kept_faults, KEEPS_PAGES))
        return seconds(plain, stock_faults)

    ours, reference = interleave(benchmark, lambda: seconds(case, our_faults), stock, ROUNDS)
    floor = statistics.median(kept) / statistics.median(reference)
    # Where there are none left, all that remains is arithmetic.
    bars.note(
        f"in core, {case}: stock NumPy over a malloc that keeps its pages, {floor:.2f}x; page "
        f"faults an iteration: {statistics.median(our_faults):.0f}, there "
        f"{statistics.median(kept_faults):.0f}, stock {statistics.median(stock_faults):.0f}"
    )
    bars.check(Bar(f"in core, {case}", "s/iteration", ours, reference, "stock NumPy", 0.85))
