"""ResNet-50 out of core on a GPU in virtual time: the engine beside its plan, and beside the bound.

The figures of a V100 are those of bench_published_shapes, but for the link: with both directions
busy each is as fast as alone. The engine, the CUDA device and the pinned store run on the fake
driver; tests/planner/virtual_gpu.py says what is modelled. All bytes are a 64th of the true ones,
and so are the rates: the times are the true ones. Every run is the same, so there is one.

Recomputing alone is in the table where it fits, and has its bar where the model says that both
together gain as much: where their bound is by so much below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bench.bench_published_shapes import BUDGET_BYTES, V100, largest_in_core
from bench.harness import Bar, Bars
from bench.resnet50_trace import trace
from swapmem.planner.joint import Recompute
from swapmem.planner.plan import Plan
from swapmem.planner.search import make_plan
from swapmem.planner.trace import Machine, Rates, Trace
from tests import fake_cuda
from tests.planner import virtual_gpu
from tests.planner.virtual_gpu import Iteration

SMALLER = 64
ITERATIONS = 3  # the third is as all that follow
BOUND_LIMIT, MODEL_LIMIT, GAIN = 1.05, 1.05, 1.2


@dataclass(frozen=True)
class Case:
    """So many times the batch that fits, over a link of so many bytes a second."""

    times: float
    link_bytes_per_second: float

    def __str__(self) -> str:
        return f"ResNet50 {self.times:g}x, {self.link_bytes_per_second / 1e9:g} GB/s, virtual GPU"

    def trace(self) -> Trace:
        link = Rates(*(self.link_bytes_per_second,) * 4)
        raw = trace(int(self.times * largest_in_core()), replace(V100, link=link))
        return virtual_gpu.on_gpu(raw, link, SMALLER)


CASES = [Case(1.7, 12e9), Case(4, 12e9), Case(7.5, 12e9), Case(4, 1.2e9)]


@cache
def planned(case: Case, recompute: Recompute) -> Plan:
    it = case.trace()
    return make_plan(it, machine_of(it), recompute=recompute)


@cache
def played(case: Case, recompute: Recompute | None) -> Iteration:
    plan = None if recompute is None else planned(case, recompute)
    with TemporaryDirectory() as folder:
        return virtual_gpu.play(
            case.trace(),
            BUDGET_BYTES // SMALLER,
            Path(folder),
            plan,
            smaller=SMALLER,
            iterations=ITERATIONS,
        )[-1]


def machine_of(it: Trace) -> Machine:
    return replace(it.machine, budget_bytes=BUDGET_BYTES // SMALLER)


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    fake_cuda.beside("swapmem_virtual_training")
    case: Case = request.param
    return case


def once(benchmark: Any, measure: Callable[[], Iteration]) -> float:
    return float(benchmark.pedantic(measure, rounds=1).seconds)


def test_a_plan_takes_what_is_foreseen(benchmark: Any, bars: Bars, case: Case) -> None:
    seconds = once(benchmark, lambda: played(case, "auto"))
    plan, went = planned(case, "auto"), played(case, "auto")
    bars.note(
        f"{case}: {seconds:.2f} s, foreseen {plan.seconds:.2f} s, "
        f"bound {plan.bound_seconds:.2f} s; "
        f"{SMALLER * went.out_bytes / 1e9:.0f} GB out, {SMALLER * went.in_bytes / 1e9:.0f} GB in, "
        f"{len(plan.recomputed)} segments recomputed; {went.misses} misses, "
        f"{went.unplanned} unplanned evictions"
    )
    bars.check(Bar(str(case), "s", [seconds], [plan.seconds], "foreseen", MODEL_LIMIT))
    unplanned = played(case, None).seconds
    bars.check(Bar(str(case), "s", [seconds], [unplanned], "no plan", 1.0))


def test_both_are_faster_than_either_alone(benchmark: Any, bars: Bars, case: Case) -> None:
    seconds = once(benchmark, lambda: played(case, "auto"))
    bound_seconds = planned(case, "auto").bound_seconds
    for alone, what in (("never", "swapping alone"), ("always", "recomputing alone")):
        plan = planned(case, alone)
        if alone == "always" and plan.swaps:
            bars.note(f"{case}: recomputing alone does not fit")
            continue
        other = played(case, alone).seconds
        gain = plan.bound_seconds / bound_seconds
        if gain < GAIN:
            bars.note(f"{case}: {other:.2f} s {what}; the model says {gain:.2f}x of both together")
        else:
            bars.check(Bar(f"{what}, {case}", "s", [other], [seconds], "both", GAIN, at_least=True))


@pytest.mark.parametrize(
    ("case", "recompute"),
    # Not 7.5 times: there one op takes nearly all memory, and nothing else can move beside it.
    [(CASES[0], "auto"), (CASES[1], "auto"), (CASES[-1], "auto"), (CASES[-1], "never")],
    ids=str,
)
def test_a_link_bound_iteration_is_near_its_bound(
    benchmark: Any, bars: Bars, case: Case, recompute: Recompute
) -> None:
    fake_cuda.beside("swapmem_virtual_training")
    seconds = once(benchmark, lambda: played(case, recompute))
    bound_seconds = planned(case, recompute).bound_seconds
    what = f"{case}" if recompute == "auto" else f"swapping alone, {case}"
    bars.check(Bar(what, "s", [seconds], [bound_seconds], "bound", BOUND_LIMIT))
