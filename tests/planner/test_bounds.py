import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linprog

from swapmem.planner import memory, preflight
from swapmem.planner.bounds import _least_bytes, lower_bound
from swapmem.planner.intervals import find
from swapmem.planner.phases import begins
from swapmem.planner.plan import Swap
from swapmem.planner.prepared import prepare
from swapmem.planner.recompute import candidates, with_recompute
from swapmem.planner.selection import Timeline
from swapmem.planner.simulate import simulate
from swapmem.planner.swap_search import Search, _starts
from swapmem.planner.trace import Block, Change, Machine, Op, Rates, Trace
from tests.planner import synthetic

SEEDS = range(24)


def machine_of(trace, seed):
    """Any budget that works, some with several workers, some with a tier behind the store."""
    pick = random.Random(seed)
    least, peak = preflight.smallest_budget(trace), memory.peak(trace)
    budget = least + int((peak - least) * pick.choice([0.05, 0.2, 0.5, 0.8]))
    machine = replace(trace.machine, budget_bytes=budget, workers=pick.choice([1, 1, 2, 4]))
    if pick.random() < 0.2:
        behind = synthetic.rates(machine.link.out_bytes_per_second * pick.uniform(0.1, 1))
        machine = replace(machine, store_bytes=int(peak * pick.uniform(0.1, 1)), behind=behind)
    return machine


def a_trace(seed):
    pick = random.Random(seed)
    trace = synthetic.random_trace(seed, pick.choice([10, 30, 60]))
    return with_recompute(trace, ["a", "b"]) if pick.random() < 0.5 else trace


@pytest.mark.parametrize("seed", SEEDS)
def test_no_plan_is_faster_or_moves_less_than_the_bound(seed):
    trace = a_trace(seed)
    machine = machine_of(trace, seed)
    bound = lower_bound(trace, machine)
    search = Search(prepare(trace), machine, bound)
    for choice in _starts(Timeline.without_stalls(prepare(trace))):
        tried = search.attempt(choice)
        if tried is None:
            continue  # the same swaps as before
        found = tried.simulation
        assert found.seconds >= bound.seconds * (1 - 1e-9), f"seed {seed}, {choice}"
        assert found.out_bytes >= bound.out_bytes, f"seed {seed}, {choice}"
        assert found.in_bytes >= bound.in_bytes, f"seed {seed}, {choice}"


@pytest.mark.parametrize("seed", SEEDS)
def test_running_without_a_plan_is_not_faster_than_the_bound_either(seed):
    trace = a_trace(seed)
    machine = machine_of(trace, seed)
    assert simulate(trace, [], machine).seconds >= lower_bound(trace, machine).seconds * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_least_bytes_are_those_that_a_linear_program_finds(seed):
    trace = synthetic.random_trace(seed, 16)
    idle = find(trace)
    excess = np.maximum(np.array(memory.profile(trace)) - trace.machine.budget_bytes, 0)
    # Without those that go over the iteration's end, all of the same cost.
    idle = idle.take(idle.wrapped < 0)
    costs = np.ones(len(idle), np.bool_)
    slots = np.arange(len(excess))[:, None]
    covers = (idle.low <= slots) & (slots <= idle.high)
    # What cannot be out at all is left to the preflight.
    excess = np.minimum(excess, covers @ idle.bytes)
    found = linprog(
        np.ones(len(idle)), -covers.astype(float), -excess, bounds=[(0, b) for b in idle.bytes]
    )
    assert _least_bytes(idle, excess, costs, costs) == pytest.approx(found.fun), f"seed {seed}"


def test_everything_fits_so_only_the_ops_count():
    trace = synthetic.resnet_like(fraction=1.0)
    bound = lower_bound(trace)
    assert bound.seconds == bound.compute_seconds
    assert (bound.out_bytes, bound.in_bytes, bound.excess_bytes) == (0, 0, 0)


def test_a_block_that_must_leave_and_return_costs_both_copies_in_a_row():
    # Block 0 is used by the first op and the last; between them another takes all of the budget.
    ops = tuple(Op(f"op {i}", "forward", 1.0, 0.0, (0,) if i != 1 else ()) for i in range(3))
    blocks = (Block(100, 1, 6), Block(100, 3, 3))
    changes = (Change(1, 0, True), Change(3, 1, True), Change(3, 1, False), Change(6, 0, False))
    machine = Machine(100, Rates(10.0, 20.0, 10.0, 20.0))
    bound = lower_bound(Trace("host", ops, blocks, changes, machine))
    assert (bound.out_bytes, bound.in_bytes) == (100, 100)
    # One second, ten for the copy out, one for the op, five for the copy in, one second.
    assert bound.seconds >= 1 + 10 + 5 + 1


def test_a_smaller_budget_or_a_slower_link_is_never_faster():
    trace = synthetic.resnet_like()
    peak = memory.peak(trace)
    by_budget = [
        lower_bound(trace, replace(trace.machine, budget_bytes=peak * part // 10)).seconds
        for part in range(2, 11)
    ]
    assert by_budget == sorted(by_budget, reverse=True)
    machine = replace(trace.machine, budget_bytes=peak * 4 // 10)
    by_link = [
        lower_bound(trace, replace(machine, link=synthetic.rates(rate))).seconds
        for rate in (1e8, 3e8, 1e9, 1e10)
    ]
    assert by_link == sorted(by_link, reverse=True)
    assert by_link[0] > by_link[-1]


def test_what_ops_lose_while_copies_run_is_counted():
    trace = synthetic.chain(16, fraction=0.5)
    plain = lower_bound(trace)
    link = replace(trace.machine.link, slowdown=1.5)
    slowed = lower_bound(trace, replace(trace.machine, link=link))
    assert slowed.link_seconds > plain.link_seconds


def test_a_store_that_is_too_small_adds_the_tier_behind_it():
    trace = synthetic.chain(16, fraction=0.3)
    small = replace(trace.machine, store_bytes=64 << 20, behind=synthetic.rates(1e7))
    assert lower_bound(trace, small).seconds > lower_bound(trace).seconds


def test_what_is_out_at_the_fullest_moment_was_copied_out():
    # A is idle longest between its uses, where all fits, and out after them, where B has no room.
    ops = tuple(
        Op(name, "forward", 1.0, 0.0, touches)
        for name, touches in (
            ("make A", ()),
            ("wait", ()),
            ("wait", ()),
            ("use A", (0,)),
            ("make B", ()),
        )
    )
    blocks = (Block(100, 1, 10), Block(100, 9, 10))
    changes = (Change(1, 0, True), Change(9, 1, True), Change(10, 0, False), Change(10, 1, False))
    trace = Trace("host", ops, blocks, changes, Machine(150, synthetic.rates(50.0)))
    bound = lower_bound(trace)
    assert (bound.excess_bytes, bound.out_bytes, bound.in_bytes) == (50, 50, 0)
    assert simulate(trace, [Swap(0, 3, None, None)]).out_bytes == 100


def test_however_often_phases_meet_an_iteration_may_begin_with_its_updates():
    trace = synthetic.resnet_like(units=2, link=synthetic.rates(2e8), fraction=0.4)
    names = {segment.name for segment in candidates(trace)}
    again = with_recompute(trace, names)
    phases = [op.phase for op in again.ops]
    assert sum(a != b for a, b in pairwise(phases)) > 6
    update = 2 * phases.index("update")
    assert update in begins(again)


def test_ops_between_two_full_moments_take_their_time_beside_both_copies():
    # Block 0 cannot be there with 1 nor with 2, and nothing of it can move between these two.
    touches = ((0,), (), (), (), (0,))
    ops = tuple(
        Op(f"op {i}", "forward", seconds, 0.0, touches[i])
        for i, seconds in enumerate((1.0, 1.0, 20.0, 1.0, 1.0))
    )
    blocks = (Block(100, 1, 10), Block(100, 3, 3), Block(100, 7, 7))
    changes = (
        Change(1, 0, True),
        *(Change(slot, 1 + slot // 5, new) for slot in (3, 7) for new in (True, False)),
        Change(10, 0, False),
    )
    machine = Machine(100, Rates(10.0, 20.0, 10.0, 20.0))
    trace = Trace("host", ops, blocks, changes, machine)
    # All ops but the one that runs while the block comes back, and both copies.
    assert lower_bound(trace).seconds == 1 + 10 + 1 + 20 + 5 + 1
    assert simulate(trace, [Swap(0, 0, 4, 4)]).seconds == 1 + 10 + 1 + 20 + 1 + 5 + 1
