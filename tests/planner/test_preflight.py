import pickle
from dataclasses import replace

import pytest

from swapmem.errors import OutOfMemory
from swapmem.planner import memory, preflight
from swapmem.planner.errors import Infeasible, PlanError
from swapmem.planner.search import make_plan
from swapmem.planner.simulate import simulate
from tests.planner import synthetic


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_budget_works_and_a_byte_less_is_refused(seed):
    trace = synthetic.random_trace(seed, 30)
    least = preflight.smallest_budget(trace)
    machine = replace(trace.machine, budget_bytes=least)
    plan = make_plan(trace, machine, "never", steps=3)
    found = simulate(trace, plan.swaps, machine)
    assert found.peak_bytes <= least, f"seed {seed}"
    assert found.misses == 0, f"seed {seed}"
    with pytest.raises(Infeasible):
        preflight.check(trace, least - 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_op_needs_more_than_the_smallest_budget(seed):
    trace = synthetic.random_trace(seed, 30)
    assert preflight.smallest_budget(trace) >= memory.op_minimum(trace), f"seed {seed}"


def test_the_refusal_names_the_op_what_it_needs_and_what_would_do():
    trace = synthetic.chain(8, bytes_each=64 << 20)
    with pytest.raises(Infeasible) as refused:
        preflight.check(trace, 100 << 20)
    error = refused.value
    assert trace.ops[error.index].name == error.op
    assert error.needed_bytes == error.smallest_budget_bytes == memory.op_minimum(trace)
    assert error.budget_bytes == 100 << 20
    for told in (error.op, f"{error.needed_bytes:,} bytes", "104,857,600 bytes", "smaller batch"):
        assert told in str(error)


def test_a_refusal_is_an_out_of_memory_and_a_plan_error_and_can_be_pickled():
    trace = synthetic.chain(8)
    with pytest.raises(OutOfMemory) as refused:
        make_plan(trace, replace(trace.machine, budget_bytes=1000))
    assert isinstance(refused.value, PlanError)
    again = pickle.loads(pickle.dumps(refused.value))
    assert str(again) == str(refused.value)
    assert vars(again) == vars(refused.value)


def test_what_may_not_be_swapped_out_takes_its_room_for_good():
    trace = synthetic.chain(8)
    most = max(range(len(trace.blocks)), key=lambda b: trace.blocks[b].bytes)
    blocks = list(trace.blocks)
    blocks[most] = replace(blocks[most], eligible=False, reason="a view is kept")
    held = replace(trace, blocks=tuple(blocks))
    before, after = (preflight.smallest_budget(each) for each in (trace, held))
    assert after == before + trace.blocks[most].bytes
