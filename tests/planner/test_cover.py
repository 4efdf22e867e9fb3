import random
from dataclasses import replace

import numpy as np
import pytest

from swapmem.planner import memory, preflight
from swapmem.planner.cover import choose
from swapmem.planner.fetches import schedule
from swapmem.planner.intervals import NEVER
from swapmem.planner.prepared import prepare
from swapmem.planner.selection import Problem, Timeline
from swapmem.planner.swap_search import _starts
from tests.planner import synthetic

SEEDS = range(12)


def problem_of(seed):
    trace = synthetic.random_trace(seed, 30)
    pick = random.Random(seed)
    least, peak = preflight.smallest_budget(trace), memory.peak(trace)
    budget = least + int((peak - least) * pick.choice([0.1, 0.3, 0.6]))
    return Problem(prepare(trace), replace(trace.machine, budget_bytes=budget)), trace


def choices(trace):
    return _starts(Timeline.without_stalls(prepare(trace)))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_rule_keeps_every_slot_within_the_budget(seed):
    problem, trace = problem_of(seed)
    for choice in choices(trace):
        chosen = choose(problem, choice)
        resident = problem.live - problem.idle.covered(chosen)
        assert resident.max() <= problem.budget_bytes, f"seed {seed}, {choice}"


@pytest.mark.parametrize("seed", SEEDS)
def test_where_all_copies_hide_nothing_is_let_go_that_could_stay(seed):
    problem, trace = problem_of(seed)
    choice = replace(choices(trace)[0], stretch=0.0)
    chosen = choose(problem, choice)
    idle = problem.idle
    spare = problem.budget_bytes - (problem.live - idle.covered(chosen))
    costs = chosen & (idle.first | (idle.before != NEVER))
    assert costs.any(), f"seed {seed}"
    assert (idle.spans.least(spare)[costs] < idle.bytes[costs]).all(), f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_banned_stays_unless_nothing_else_is_enough(seed):
    problem, trace = problem_of(seed)
    choice = choices(trace)[0]
    used = np.flatnonzero(choose(problem, choice))
    banned = int(used[0])
    again = choose(problem, choice.without(banned))
    if again[banned]:
        everything_else = np.ones(len(problem.idle), np.bool_)
        everything_else[banned] = False
        resident = problem.live - problem.idle.covered(everything_else)
        assert resident.max() > problem.budget_bytes, f"seed {seed}"


def test_what_is_in_the_store_and_never_needed_again_always_goes():
    trace = synthetic.chain(16, fraction=0.5, frees_late=True)
    problem = Problem(prepare(trace), trace.machine)
    chosen = choose(problem, choices(trace)[0])
    idle = problem.idle
    stored = set(idle.group[chosen & (idle.before != NEVER)].tolist())
    dead = (idle.before == NEVER) & np.isin(idle.group, list(stored)) & ~idle.first
    # As long as memory is short at all.
    dead &= idle.low <= np.flatnonzero(problem.live > problem.budget_bytes).max()
    assert dead.any()
    assert chosen[dead].all()


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_in_are_asked_for_when_there_is_room_and_in_the_order_of_need(seed):
    problem, trace = problem_of(seed)
    for choice in choices(trace)[:4]:
        swaps = schedule(problem, choose(problem, choice), choice)
        assert swaps == sorted(swaps, key=lambda swap: swap.out_after)
        back = [swap for swap in swaps if swap.fetch_at is not None]
        assert all(s.out_after < s.fetch_at <= s.needed_by for s in back), f"seed {seed}"
        by_need = sorted(back, key=lambda swap: swap.needed_by)
        asked = [swap.fetch_at for swap in by_need]
        late = [s for s in by_need if s.fetch_at == s.needed_by]
        assert asked == sorted(asked) or late, f"seed {seed}"


def test_an_earlier_lead_asks_earlier():
    trace = synthetic.chain(16, fraction=0.5)
    problem = Problem(prepare(trace), trace.machine)
    choice = choices(trace)[0]
    chosen = choose(problem, choice)
    soon, early = (schedule(problem, chosen, replace(choice, lead=lead)) for lead in (0.0, 50.0))
    assert sum(s.fetch_at or 0 for s in early) < sum(s.fetch_at or 0 for s in soon)
