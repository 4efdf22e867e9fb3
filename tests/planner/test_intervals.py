from dataclasses import replace

import numpy as np
import pytest

from swapmem.planner.intervals import NEVER, find
from swapmem.planner.trace import Block, Change, Machine, Op, Trace
from tests.planner import synthetic


def trace_of(touches, blocks, writes=None, changes=()):
    writes = writes or [()] * len(touches)
    ops = tuple(
        Op(f"op {i}", "forward", 1.0, 0.0, tuple(touched), tuple(written))
        for i, (touched, written) in enumerate(zip(touches, writes, strict=True))
    )
    machine = Machine(100, synthetic.rates())
    return Trace("host", ops, tuple(blocks), tuple(changes), machine)


def rows(trace):
    idle = find(trace)
    return [
        (int(a), None if b == NEVER else int(b), int(low), int(high), int(over))
        for a, b, low, high, over in zip(
            idle.after, idle.before, idle.low, idle.high, idle.wrapped, strict=True
        )
    ]


def test_an_interval_lies_between_the_allocating_op_and_the_next_touch():
    blocks = [Block(10, born=1, freed=8)]
    changes = [Change(1, 0, True), Change(8, 0, False)]
    trace = trace_of([(), (), (0,), ()], blocks, changes=changes)
    # Out after op 0, back at op 2; after that it is never needed again, until it is freed.
    assert rows(trace) == [(0, 2, 2, 4, -1), (2, None, 6, 8, -1)]


def test_what_outlives_the_iteration_is_idle_over_its_end():
    trace = trace_of([(), (0,), (), (0,), ()], [Block(10, None, None)])
    assert rows(trace) == [(1, 3, 4, 6, -1), (3, 6, 8, 10, 2)]


def test_what_stands_at_the_begin_as_another_block_is_idle_until_that_one_is_used():
    blocks = [Block(10, born=7, freed=None), Block(10, None, freed=4, carried_from=0)]
    changes = [Change(4, 1, False), Change(7, 0, True)]
    untouched = trace_of([(), (), (), ()], blocks, changes=changes)
    assert rows(untouched) == [(3, None, 8, 8, 4)]
    touched = trace_of([(), (1,), (), (), (0,), ()], blocks, changes=changes)
    assert rows(touched) == [(3, 4, 8, 8, -1), (4, 7, 10, 12, 2), (1, None, 4, 4, -1)]


def test_what_is_made_after_the_last_op_is_idle_from_the_next_begin_on():
    blocks = [Block(10, born=8, freed=None), Block(10, None, freed=8, carried_from=0)]
    changes = [Change(8, 1, False), Change(8, 0, True)]
    untouched = trace_of([(), (), (), ()], blocks, changes=changes)
    assert rows(untouched) == [(-1, None, 0, 8, -1)]
    touched = trace_of([(), (), (1,), ()], blocks, changes=changes)
    assert rows(touched) == [(-1, 2, 0, 4, -1), (2, None, 6, 8, -1)]
    # The copy out is made in this iteration: there was no time for it before.
    assert find(touched).first.tolist() == [True, False]


def test_what_nobody_may_swap_has_no_interval():
    trace = trace_of([(0,), (), (0,)], [Block(10, None, None, eligible=False, reason="small")])
    assert rows(trace) == []


def test_only_the_first_interval_after_a_write_needs_a_copy_out():
    touches = [(0,), (), (0,), (), (0,), (), (0,)]
    blocks = [Block(10, None, None)]
    read_only = find(trace_of(touches, blocks))
    assert read_only.clean.all()
    written = find(trace_of(touches, blocks, [(), (), (), (), (0,), (), ()]))
    assert not written.clean.any()
    # From op 4 on one copy serves all, over the iteration's end, until it is written again.
    assert written.first.tolist() == [False, False, True, False]
    assert len(set(written.group.tolist())) == 1


def test_what_is_born_needs_a_copy_out_the_first_time_only():
    blocks = [Block(10, born=1, freed=12)]
    changes = [Change(1, 0, True), Change(12, 0, False)]
    idle = find(trace_of([(), (), (0,), (), (0,), ()], blocks, changes=changes))
    assert idle.first.tolist() == [True, False, False]
    assert not idle.clean.any()


@pytest.mark.parametrize("seed", range(20))
def test_no_block_is_used_while_it_is_idle(seed):
    trace = synthetic.random_trace(seed)
    idle = find(trace)
    for j in range(len(idle)):
        block = int(idle.block[j])
        for op in range(int(idle.low[j]) // 2, int(idle.high[j]) // 2):
            assert block not in trace.ops[op].touches, f"seed {seed}"
        for op in range((int(idle.wrapped[j]) + 1) // 2):
            assert block not in trace.ops[op].touches, f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_the_bytes_of_all_intervals_add_up_slot_by_slot(seed):
    trace = synthetic.random_trace(seed)
    idle = find(trace)
    expected = np.zeros(2 * len(trace.ops) + 1, np.int64)
    for j in range(len(idle)):
        expected[idle.low[j] : idle.high[j] + 1] += idle.bytes[j]
        expected[: idle.wrapped[j] + 1] += idle.bytes[j]
    everything = np.ones(len(idle), np.bool_)
    assert np.array_equal(idle.covered(everything), expected), f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_the_least_value_in_each_interval_is_that_of_its_slots(seed):
    trace = synthetic.random_trace(seed)
    idle = find(trace)
    values = np.random.default_rng(seed).integers(-1000, 1000, 2 * len(trace.ops) + 1)
    for j, least in enumerate(idle.spans.least(values)):
        slots = np.r_[values[idle.low[j] : idle.high[j] + 1], values[: idle.wrapped[j] + 1]]
        assert least == slots.min(), f"seed {seed}"


def test_blocks_of_no_bytes_have_no_interval():
    trace = trace_of([(0,), (), (0,)], [Block(10, None, None)])
    empty = replace(trace, blocks=(Block(0, None, None),))
    assert len(find(trace)) > 0
    assert len(find(empty)) == 0
