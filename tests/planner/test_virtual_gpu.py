"""The engine on a GPU in virtual time beside what the planner foresees for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from swapmem.planner.plan import Plan
from swapmem.planner.recompute import with_recompute
from swapmem.planner.search import make_plan
from swapmem.planner.simulate import simulate
from swapmem.planner.trace import Machine, Trace
from tests.planner import synthetic
from tests.planner.parts import part_of
from tests.planner.virtual_gpu import Iteration, on_gpu, play

SMALLER = 64
LINK = synthetic.rates(12e9)
TOLERANCE = 0.05


def network(mib: int = 128) -> Trace:
    """Two stages; the largest arrays take about as long to copy as the op that makes them."""
    trace = synthetic.resnet_like(stages=2, bytes_first=mib << 20, seconds_first=0.01 * mib / 128)
    return on_gpu(trace, LINK, SMALLER)


def machine_of(trace: Trace, share: float) -> Machine:
    return replace(trace.machine, budget_bytes=int(trace.machine.budget_bytes * share))


def steady(trace: Trace, machine: Machine, plan: Plan | None, folder: Path) -> Iteration:
    return play(trace, machine.budget_bytes, folder, plan, smaller=SMALLER)[-1]


def fetched_late(plan: Plan) -> Plan:
    return replace(plan, swaps=tuple(replace(s, fetch_at=s.needed_by) for s in plan.swaps))


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("share", [0.7, 0.5])
def test_an_iteration_on_a_gpu_goes_as_it_is_simulated(
    share: float, late: bool, tmp_path: Path
) -> None:
    trace = network()
    machine = machine_of(trace, share)
    plan = make_plan(trace, machine, recompute="never")
    if late:
        plan = fetched_late(plan)
    went = steady(trace, machine, plan, tmp_path)
    simulated = simulate(trace, plan.swaps, machine)
    assert (went.misses, went.unplanned) == (0, 0)
    assert (went.out_bytes, went.in_bytes) == (simulated.out_bytes, simulated.in_bytes)
    assert went.seconds == pytest.approx(simulated.seconds, rel=TOLERANCE)


@pytest.mark.parametrize("share", [0.7, 0.5])
def test_arrays_of_several_blocks_move_as_it_is_simulated(share: float, tmp_path: Path) -> None:
    trace = network(1000)
    assert sum(part_of(block) > 0 for block in trace.blocks) > len(trace.blocks) / 2
    machine = machine_of(trace, share)
    plan = make_plan(trace, machine, recompute="never")
    went = steady(trace, machine, plan, tmp_path)
    simulated = simulate(trace, plan.swaps, machine)
    assert (went.misses, went.unplanned) == (0, 0)
    assert (went.out_bytes, went.in_bytes) == (simulated.out_bytes, simulated.in_bytes)
    assert went.seconds == pytest.approx(simulated.seconds, rel=TOLERANCE)


def test_a_plan_with_recomputing_goes_as_it_is_simulated(tmp_path: Path) -> None:
    trace = network()
    machine = machine_of(trace, 0.5)
    plan = make_plan(trace, machine, recompute="always")
    went = steady(trace, machine, plan, tmp_path)
    simulated = simulate(with_recompute(trace, plan.recomputed), plan.swaps, machine)
    assert plan.recomputed
    assert (went.misses, went.unplanned) == (0, 0)
    assert went.seconds == pytest.approx(simulated.seconds, rel=TOLERANCE)


def test_a_planned_iteration_is_faster_than_one_without_a_plan(tmp_path: Path) -> None:
    trace = network()
    machine = machine_of(trace, 0.5)
    plan = make_plan(trace, machine)
    planned, unplanned = (steady(trace, machine, p, tmp_path) for p in (plan, None))
    assert planned.seconds < unplanned.seconds


def test_every_run_is_the_same(tmp_path: Path) -> None:
    trace = network()
    machine = machine_of(trace, 0.5)
    first, second = (
        play(trace, machine.budget_bytes, tmp_path, None, smaller=SMALLER) for _ in range(2)
    )
    assert first == second
