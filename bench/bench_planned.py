"""Planned swaps and recomputing beside the same training in core, the bound, and no plan."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from bench.harness import Bar, Bars, Case, share_of, train, train_in_turn
from train.measure import Measurement

ROUNDS = 2
# The first three iterations are observed, planned and planned again.
LEARNING = 3
SHARES = (0.50, 0.40, 0.25)
CASES = [
    Case("googlenet", 896, 2, iterations=9),
    Case("resnet50", 448, 4, iterations=9),
    Case("jacintonet11", 448, 16, iterations=9),
]


def steady(run: Measurement) -> list[float]:
    """Seconds of the iterations that nothing has to be learnt from."""
    return run.seconds[LEARNING:]


@cache
def in_core(case: Case) -> Measurement:
    # The optimizer's state is there from the second iteration on.
    return train(replace(case, plan="none", iterations=2))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case))
@pytest.mark.parametrize("share", SHARES, ids="{:.0%}".format)
def test_planned_training_keeps_up_with_training_in_core(
    benchmark: Any, bars: Bars, case: Case, share: float
) -> None:
    stats = in_core(case).stats
    budget_bytes, label = share_of(stats, share)
    if any(budget_bytes == share_of(stats, larger)[0] for larger in SHARES if larger > share):
        pytest.skip(f"its largest op needs more than {share:.0%}: measured already")
    small = replace(case, budget_bytes=budget_bytes)
    runs: dict[str, list[Measurement]] = {"core": [], "none": [], "auto": []}

    def round_of_all() -> None:
        cases = replace(case, plan="none"), replace(small, plan="none"), small
        for kind, run in zip(runs, train_in_turn(cases, LEARNING), strict=True):
            runs[kind].append(run)

    benchmark.pedantic(round_of_all, rounds=ROUNDS)
    assert len({run.weights for kind in runs.values() for run in kind}) == 1
    seconds = {kind: [s for run in runs[kind] for s in steady(run)] for kind in runs}
    for run in runs["auto"]:
        for key in ("faults", "plan_misses", "unplanned_evictions"):
            assert sum(counts[key] for counts in run.counts[LEARNING:]) == 0, key
        assert run.stats["peak_charged_bytes"] <= budget_bytes
    stalls = statistics.median(
        counts["stall_seconds"] for run in runs["auto"] for counts in run.counts[LEARNING:]
    )
    without = statistics.median(
        counts["stall_seconds"] for run in runs["none"] for counts in run.counts[LEARNING:]
    )
    bars.note(
        f"{label}, {case}: waits {stalls:.3f} s an iteration with a plan, {without:.3f} s without"
    )
    bound = [run.foreseen["bound_seconds"] for run in runs["auto"] for _ in steady(run)]
    rows = [
        Bar(f"planned at {label}, {case}", "s", seconds["auto"], seconds["core"], "in core", 1.05),
        Bar(f"planned at {label}, {case}", "s", seconds["auto"], bound, "the bound", 1.05),
        Bar(f"planned at {label}, {case}", "s", seconds["auto"], seconds["none"], "no plan", 1.0),
    ]
    for row in rows:
        bars.all.append(row)
    assert all(row.met for row in rows), "; ".join(str(row) for row in rows if not row.met)
