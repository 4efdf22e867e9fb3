import random
from dataclasses import replace

import numpy as np
import pytest

from swapmem.planner import memory, preflight
from swapmem.planner.plan_check import check_plan
from swapmem.planner.prepared import prepare
from swapmem.planner.recompute import candidates, with_recompute
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.search import make_plan
from swapmem.planner.selection import Timeline
from swapmem.planner.simulate import Simulator, simulate
from swapmem.planner.swap_search import Search, _starts, search
from swapmem.planner.trace import Block, Change, Machine, Op, Trace
from swapmem.planner.whatif import predict
from tests.planner import synthetic

SEEDS = range(16)


def on_a_machine(trace, seed):
    pick = random.Random(seed)
    least, peak = preflight.smallest_budget(trace), memory.peak(trace)
    budget = least + int((peak - least) * pick.choice([0.0, 0.1, 0.3, 0.6]))
    return replace(trace, machine=replace(trace.machine, budget_bytes=budget))


def resident_bytes(trace, plan):
    """In each slot, if every block is out from the slot after its op to its fetch."""
    live = np.array(memory.profile(trace))
    end = 2 * len(trace.ops)
    for swap in plan.swaps:
        block = trace.blocks[swap.block]
        low, later = 2 * swap.out_after + 2, -1
        high = end if swap.fetch_at is None else 2 * swap.fetch_at
        if swap.fetch_at is None and block.freed is not None:
            high = block.freed
        heir = [b for b in trace.blocks if b.carried_from == swap.block]
        if swap.fetch_at is None and heir:
            later = heir[0].freed
        elif high > end:
            high, later = end, 2 * (swap.fetch_at - len(trace.ops))
        live[low : high + 1] -= block.bytes
        live[: later + 1] -= block.bytes
    return live


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_fits_the_budget_in_every_slot_and_never_misses(seed):
    trace = on_a_machine(synthetic.random_trace(seed), seed)
    plan = make_plan(trace, recompute="never", steps=8)
    check_plan(plan, trace)
    assert resident_bytes(trace, plan).max() <= trace.machine.budget_bytes, f"seed {seed}"
    found = simulate(trace, plan.swaps)
    assert found.misses == 0, f"seed {seed}"
    assert found.peak_bytes == plan.peak_bytes <= trace.machine.budget_bytes, f"seed {seed}"
    assert (found.seconds, found.out_bytes, found.in_bytes) == (
        plan.seconds,
        plan.out_bytes,
        plan.in_bytes,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_is_never_slower_than_none(seed):
    trace = on_a_machine(synthetic.random_trace(seed), seed)
    plan = make_plan(trace, recompute="never", steps=8)
    assert plan.seconds <= simulate(trace, []).seconds * (1 + 1e-9), f"seed {seed}"


@pytest.mark.parametrize("seed", range(4))
def test_the_same_trace_gives_the_same_plan(seed):
    trace = on_a_machine(synthetic.random_trace(seed), seed)
    again = on_a_machine(synthetic.random_trace(seed), seed)
    assert make_plan(trace, steps=12) == make_plan(again, steps=12)


@pytest.mark.parametrize(
    "trace",
    [
        synthetic.chain(16, fraction=0.5),
        synthetic.resnet_like(link=synthetic.rates(4e9)),
        synthetic.with_branches(link=synthetic.rates(4e9)),
    ],
    ids=["chain", "resnet", "branches"],
)
def test_a_quick_link_hides_every_copy(trace):
    plan = make_plan(trace, recompute="never")
    assert plan.out_bytes > 0
    assert plan.seconds == pytest.approx(plan.compute_seconds, rel=0.001)
    assert plan.bound_seconds <= plan.seconds


def test_where_everything_fits_nothing_is_swapped():
    plan = make_plan(synthetic.resnet_like(fraction=1.0))
    assert plan.swaps == ()
    assert plan.recomputed == ()
    assert plan.seconds == plan.compute_seconds == plan.bound_seconds


def test_the_search_improves_on_every_way_to_start():
    trace = synthetic.resnet_like(units=2, link=synthetic.rates(2e8), fraction=0.4)
    tried = Search(prepare(trace), trace.machine)
    starts = _starts(Timeline.without_stalls(prepare(trace)))
    best = min(tried.attempt(choice).simulation.seconds for choice in starts)
    assert search(trace, trace.machine).simulation.seconds < best


def test_what_is_small_comes_in_while_there_is_no_room_for_what_is_needed_first():
    # Both are out while 2 is there; beside 3 there is room for 1 alone, which is needed last.
    touches = ((), (), (), (), (0,), (1,))
    seconds = (10.0, 10.0, 1.0, 10.0, 0.1, 0.1)
    ops = tuple(Op(f"op {i}", "forward", seconds[i], 0.0, touches[i]) for i in range(len(seconds)))
    blocks = (Block(60, 1, 12), Block(20, 3, 12), Block(95, 5, 5), Block(60, 7, 8))
    changes = (
        *(Change(slot, slot // 2, True) for slot in (1, 3)),
        *(Change(5, 2, new) for new in (True, False)),
        Change(7, 3, True),
        Change(8, 3, False),
        *(Change(12, block, False) for block in (0, 1)),
    )
    trace = Trace("host", ops, blocks, changes, Machine(100, synthetic.rates(10.0)))
    found = search(trace, trace.machine)
    assert {s.block: s.fetch_at for s in found.swaps if s.fetch_at is not None} == {0: 4, 1: 3}
    # All but the copy of 0 is hidden: that out of 1, beside op 1, is in time for op 2.
    assert found.simulation.seconds == pytest.approx(sum(seconds) + 2 + 6)


def test_the_last_activations_of_forward_stay_resident():
    trace = synthetic.chain(16, fraction=0.5)
    plan = make_plan(trace, recompute="never")
    forward = [b for b, block in enumerate(trace.blocks) if "output" in block.name]
    leave = {swap.block for swap in plan.swaps if swap.needed_by is not None}
    assert forward[0] in leave
    assert not leave & set(forward[-4:])


def test_what_is_in_the_store_and_never_needed_again_leaves_without_a_copy():
    trace = synthetic.chain(16, fraction=0.5, frees_late=True)
    plan = make_plan(trace, recompute="never")
    twice = [swap for swap in plan.swaps if swap.needed_by is None]
    back = {swap.block for swap in plan.swaps if swap.needed_by is not None}
    assert any(swap.block in back for swap in twice)
    assert plan.out_bytes < sum(trace.blocks[swap.block].bytes for swap in plan.swaps)


def test_a_slow_link_makes_recomputing_worth_it_and_a_quick_one_does_not():
    slow = synthetic.resnet_like(units=2, link=synthetic.rates(2e8), fraction=0.4)
    plans = {how: make_plan(slow, recompute=how, steps=40) for how in ("auto", "never", "always")}
    assert plans["auto"].recomputed
    assert plans["auto"].seconds < plans["never"].seconds
    assert plans["auto"].seconds <= plans["always"].seconds
    assert plans["never"].recomputed == ()
    quick = synthetic.resnet_like(units=2, link=synthetic.rates(1e11), fraction=0.4)
    assert make_plan(quick).recomputed == ()


def test_always_recomputes_as_few_segments_as_do():
    trace = synthetic.resnet_like(fraction=0.8)
    plan = make_plan(trace, recompute="always")
    names = {segment.name for segment in candidates(trace)}
    assert 0 < len(plan.recomputed) < len(names)
    assert plan.swaps == ()
    assert memory.peak(with_recompute(trace, plan.recomputed)) <= trace.machine.budget_bytes


def test_the_swaps_of_a_plan_that_recomputes_belong_to_the_trace_with_the_segments():
    trace = synthetic.resnet_like(units=2, link=synthetic.rates(2e8), fraction=0.4)
    plan = make_plan(trace, steps=24)
    longer = with_recompute(trace, plan.recomputed)
    assert simulate(longer, plan.swaps).seconds == plan.seconds
    assert len(plan.reasons) == len(trace.blocks)
    named = {s.name: s for s in candidates(trace)}
    for name in plan.recomputed:
        for block in named[name].blocks:
            assert plan.reasons[block].startswith(f"recomputed: with segment {name}")


def test_each_block_gets_one_reason():
    blocks = list(synthetic.resnet_like().blocks)
    blocks[0] = replace(blocks[0], eligible=False, reason="seen by a view")
    trace = replace(synthetic.resnet_like(fraction=0.4), blocks=tuple(blocks))
    plan = make_plan(trace, recompute="never")
    swapped = {swap.block for swap in plan.swaps}
    assert plan.reasons[0] == "not eligible: seen by a view"
    for block, reason in enumerate(plan.reasons[1:], start=1):
        assert reason.startswith("swapped: idle" if block in swapped else "kept: "), reason
    assert any("hidden" in reason for reason in plan.reasons)


def test_a_wait_for_a_block_stands_in_its_reason():
    trace = synthetic.chain(16, fraction=0.3, link=synthetic.rates(1e8))
    plan = make_plan(trace, recompute="never")
    assert any("waited for" in reason for reason in plan.reasons)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_simulation_is_given_up_only_where_it_takes_longer_than_its_limit(seed):
    trace = on_a_machine(synthetic.random_trace(seed), seed)
    search = Search(prepare(trace), trace.machine)
    simulator = Simulator(trace)
    for choice in _starts(Timeline.without_stalls(prepare(trace))):
        tried = search.attempt(choice)
        if tried is None:
            continue  # the same swaps as before
        found = tried.simulation
        assert simulator.run_within(tried.swaps, found.seconds * (1 + 1e-9)) == found
        assert simulator.run_within(tried.swaps, found.seconds * 0.9) is None


def test_a_search_goes_on_where_it_was():
    trace = synthetic.resnet_like(units=2, link=synthetic.rates(2e8), fraction=0.4)
    at_once = Search(prepare(trace), trace.machine).run(24)
    in_parts = Search(prepare(trace), trace.machine)
    seconds = [in_parts.run(8).simulation.seconds for _ in range(3)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] < seconds[0]
    assert at_once.simulation.seconds < seconds[0]


def test_what_the_trace_recomputes_already_is_named_beside_what_the_plan_adds():
    trace = synthetic.resnet_like(units=2, link=synthetic.rates(2e8), fraction=0.4)
    names = tuple(make_plan(trace, recompute="always").recomputed)
    some = with_recompute(trace, names[1:])
    assert make_plan(some, recompute="never").recomputed == names[1:]
    assert set(make_plan(some, recompute="always").recomputed) >= set(names)
    row = predict(some, [trace.machine.budget_bytes], recompute="never")[0]
    assert row.recomputed == len(names) - 1


def test_a_second_pass_into_the_same_update_is_not_taken_for_recomputing():
    ops = [
        Op(name, phase, 1.0, 0.0, (), segment=segment)
        for name, phase, segment in 2
        * [
            ("Conv", "forward", "unit"),
            ("Loss", "forward", None),
            ("Loss backward", "backward", None),
        ]
    ]
    trace = replace(synthetic.chain(2), ops=tuple(ops * 2), blocks=(), changes=())
    assert repeated_segments(trace) == []
