import itertools
from dataclasses import replace

import pytest

from swapmem.planner import memory, preflight, whatif
from swapmem.planner.errors import Infeasible, PlanError
from swapmem.planner.whatif import Row
from tests.planner import synthetic

TRACE = synthetic.resnet_like(3, 2, link=synthetic.rates(5e8))


def row(budget_bytes, seconds, feasible=True):
    return Row(budget_bytes, 0.0, feasible, 0, seconds)


def test_a_larger_budget_is_not_slower_and_the_peak_is_in_core():
    rows = whatif.predict(TRACE, whatif.budgets(TRACE, 5), recompute="never", steps=20)
    assert len(rows) == 5
    assert rows[0].budget_bytes == preflight.smallest_budget(TRACE)
    assert rows[-1].budget_bytes == memory.peak(TRACE)
    for smaller, larger in itertools.pairwise(rows):
        assert larger.seconds <= smaller.seconds * 1.02
    assert rows[0].seconds > rows[-1].seconds
    assert rows[-1].slowdown == pytest.approx(1)
    assert rows[-1].out_bytes == 0
    assert all(r.bound_seconds <= r.seconds and r.peak_bytes <= r.budget_bytes for r in rows)


def test_a_budget_without_a_plan_says_what_would_do():
    (found,) = whatif.predict(TRACE, [1000])
    assert not found.feasible
    assert found.needed_bytes == preflight.smallest_budget(TRACE)


def test_a_quicker_link_helps_and_a_quicker_device_needs_one():
    budget = [memory.peak(TRACE) * 4 // 10]
    here = whatif.predict(TRACE, budget, recompute="never", steps=20)[0]
    linked = whatif.elsewhere(TRACE, link_bytes_per_second=5e9)
    assert linked.machine.link.duplex_in_bytes_per_second == 5e9
    assert whatif.predict(linked, budget, recompute="never", steps=20)[0].seconds < here.seconds
    faster = whatif.elsewhere(TRACE, compute_scale=3)
    assert faster.ops[0].seconds == pytest.approx(TRACE.ops[0].seconds / 3)
    assert faster.ops[0].gap_seconds == TRACE.ops[0].gap_seconds
    there = whatif.predict(faster, budget, recompute="never", steps=20)[0]
    assert there.seconds < here.seconds
    assert there.slowdown > here.slowdown


def test_both_directions_lose_as_much_as_on_the_link_of_the_trace():
    link = replace(synthetic.rates(1e9), duplex_out_bytes_per_second=5e8)
    trace = replace(TRACE, machine=replace(TRACE.machine, link=link))
    other = whatif.elsewhere(trace, link_bytes_per_second=4e9).machine.link
    assert (other.out_bytes_per_second, other.in_bytes_per_second) == (4e9, 4e9)
    assert other.duplex_out_bytes_per_second == 2e9
    assert other.duplex_in_bytes_per_second == 4e9


def test_more_images_scale_activations_and_not_parameters():
    twice = whatif.elsewhere(TRACE, size_scale=2)
    updated = {b for op in TRACE.ops if op.phase == "update" for b in op.touches}
    for index, (old, new) in enumerate(zip(TRACE.blocks, twice.blocks, strict=True)):
        lives_on = old.born is None and old.freed is None
        fixed = index in updated or lives_on or old.carried_from in updated
        assert new.bytes == old.bytes * (1 if fixed else 2)
    for old, new in zip(TRACE.ops, twice.ops, strict=True):
        assert new.seconds == pytest.approx(old.seconds * (1 if old.phase == "update" else 2))


@pytest.mark.parametrize("name", ["link_bytes_per_second", "compute_scale", "size_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_no_machine_has_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} has to be above 0"):
        whatif.elsewhere(TRACE, **{name: value})


def test_the_knee_is_where_less_memory_begins_to_cost():
    rows = [row(10, 9.0), row(20, 5.0), row(30, 2.1), row(40, 2.0), row(50, 2.0)]
    assert whatif.knee(rows) == rows[2]
    assert whatif.knee(rows[::-1]) == rows[2]


def test_a_flat_or_straight_curve_has_no_knee():
    assert whatif.knee([row(10, 2.0), row(20, 2.0), row(30, 2.0)]) is None
    assert whatif.knee([row(10, 2.0), row(20, 1.0)]) is None
    assert whatif.knee([row(10, 4.0), row(20, 3.5), row(30, 2.0)]) is None
    assert whatif.knee([row(5, 0.0, feasible=False), row(10, 2.0), row(20, 1.0)]) is None


def test_the_smallest_budget_for_a_slow_down_keeps_to_it():
    found = whatif.smallest_budget(TRACE, 1.1, recompute="never", steps=8)
    assert found.slowdown <= 1.1
    peak = memory.peak(TRACE)
    assert preflight.smallest_budget(TRACE) < found.budget_bytes < peak
    less = [found.budget_bytes - peak // 20]
    assert whatif.predict(TRACE, less, recompute="never", steps=8)[0].slowdown > 1.1


def test_a_slow_down_that_every_budget_keeps_to_needs_the_smallest():
    quick = synthetic.chain(16, link=synthetic.rates(1e12))
    found = whatif.smallest_budget(quick, 3.0)
    assert found.budget_bytes == preflight.smallest_budget(quick)


def test_a_speed_up_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0.9"):
        whatif.smallest_budget(TRACE, 0.9)


def test_the_largest_size_fits_and_the_next_does_not():
    budget = preflight.smallest_budget(TRACE) * 2
    scale = whatif.largest_scale(TRACE, budget)
    assert scale > 1.5
    assert preflight.smallest_budget(whatif.elsewhere(TRACE, size_scale=scale)) <= budget
    larger = whatif.elsewhere(TRACE, size_scale=scale * 1.05)
    assert preflight.smallest_budget(larger) > budget
    assert whatif.largest_scale(TRACE, budget, 1.1, recompute="never", steps=4) < scale


def test_a_budget_that_parameters_alone_exceed_is_refused():
    with pytest.raises(Infeasible):
        whatif.largest_scale(TRACE, 1000)


def test_a_link_that_is_too_slow_for_any_size_is_said():
    slow = whatif.elsewhere(TRACE, link_bytes_per_second=1000.0)
    budget = preflight.smallest_budget(whatif.elsewhere(slow, size_scale=1 / 64)) + 1
    with pytest.raises(PlanError, match="no size takes at most 1.01 times"):
        whatif.largest_scale(slow, budget, 1.01, recompute="never", steps=2)
