"""A plan for 2,000 ops and 5,000 blocks is made in less than two seconds."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from bench.harness import Bar, Bars
from swapmem.planner import memory, preflight
from swapmem.planner.search import make_plan
from swapmem.planner.trace import Trace
from tests.planner.synthetic import MIB, Layer, network, rates

LIMIT_SECONDS = 2.0
ROUNDS = 3
# Functions; two of three have a parameter, which makes an op and four blocks more.
FUNCTIONS = 886


def large_trace() -> Trace:
    """As many ops and blocks as the largest of the models has several times over."""
    layers = [
        Layer(
            f"F{i}",
            (i - 1,) if i % 16 else tuple(sorted({i - 1, max(-1, i - 16)})),
            (1 + i * 7919 % 63) * MIB // 4,
            0.001 * (1 + i * 104729 % 17),
            keeps_inputs=i % 5 != 0,
            keeps_output=i % 5 == 0,
            parameter_bytes=MIB // 16 if i % 3 else 0,
            workspace_bytes=MIB,
            segment=f"segment {i // 16}",
        )
        for i in range(FUNCTIONS)
    ]
    return network(layers, frees_late=True)


# How many bytes of the peak the link copies while an iteration computes.
@pytest.mark.parametrize("copied", [8.0, 1.0], ids=["quick", "slow"])
@pytest.mark.parametrize("fraction", [0.5, 0.25])
def test_a_large_plan_is_made_in_two_seconds(
    benchmark: Any, bars: Bars, copied: float, fraction: float
) -> None:
    trace = large_trace()
    assert len(trace.ops) >= 2000
    assert len(trace.blocks) >= 5000
    peak = memory.peak(trace)
    compute_seconds = sum(op.seconds for op in trace.ops)
    machine = replace(
        trace.machine,
        budget_bytes=max(int(peak * fraction), preflight.smallest_budget(trace)),
        link=rates(copied * peak / compute_seconds),
    )
    seconds: list[float] = []
    ratios: list[float] = []

    def plan() -> None:
        # The processor's time: planning is one thread that never waits.
        begin = time.process_time()
        made = make_plan(trace, machine)
        seconds.append(time.process_time() - begin)
        ratios.append(made.seconds / made.bound_seconds)

    benchmark.pedantic(plan, rounds=ROUNDS)
    what = f"plan of {len(trace.ops):,} ops, {len(trace.blocks):,} blocks, {fraction:.0%}"
    bars.note(f"{what}, link {copied:g}x: predicted {ratios[0]:.2f}x of the bound")
    bars.check(
        Bar(f"{what}, link {copied:g}x", "s", seconds, [LIMIT_SECONDS] * ROUNDS, "the bar", 1.0)
    )
