"""Plans in the engine's terms, and what the engine makes of them."""

from __future__ import annotations

import numpy as np
import pytest

import swapmem
from swapmem.planner.execute import instructions, needs
from swapmem.planner.plan import Plan, Swap
from swapmem.planner.record import Birth, Recorded
from swapmem.planner.trace import Block, Change, Machine, Op, Rates, Trace

MACHINE = Machine(1 << 30, Rates(1e9, 1e9, 1e9, 1e9))


def op(*touches: int) -> Op:
    return Op("F", "forward", 1.0, 0.0, touches)


def plan(*swaps: Swap) -> Plan:
    return Plan(swaps, (), (), 1.0, 1.0, 1.0, 0, 0, 0)


# Block 0 lives for good, 1 is made by op 0 and freed after op 2, 2 is made by op 2 and stands as 3
# in the next iteration, until op 0 has ended.
TRACE = Trace(
    "host",
    (op(0), op(), op(0, 1)),
    (
        Block(10, None, None),
        Block(20, 1, 6),
        Block(30, 5, None),
        Block(30, None, 2, carried_from=2),
    ),
    (Change(1, 1, True), Change(2, 3, False), Change(5, 2, True), Change(6, 1, False)),
    MACHINE,
)
RECORDED = Recorded(
    TRACE, ((100, 7), (200, 8), (300, 9), (400, 6)), (None, Birth(1, 0), Birth(5, 1), None)
)


def test_a_swap_leaves_at_the_end_of_one_op_and_is_asked_for_at_the_begin_of_another():
    blocks, at_begin, steps = instructions(RECORDED, plan(Swap(1, 0, 1, 2)))
    assert blocks == [(20, 200, 8, -1, 1, 0)]
    assert at_begin == []
    assert [step[1:3] for step in steps] == [([], [0]), ([0], []), ([], [])]


def test_what_is_fetched_in_the_next_iteration_is_out_at_its_begin():
    blocks, at_begin, steps = instructions(RECORDED, plan(Swap(0, 2, 3, 3)))
    assert blocks == [(10, 100, 7, -1, -1, 0)]
    assert at_begin == [0]
    assert [step[1:3] for step in steps] == [([0], []), ([], []), ([], [0])]


def test_what_never_comes_back_is_told_where_it_stands_in_the_next_iteration():
    blocks, at_begin, steps = instructions(RECORDED, plan(Swap(2, 2, None, None)))
    assert blocks == [(30, 300, 9, -1, 5, 1), (30, 400, 6, 0, -1, 0)]
    assert at_begin == [1]
    assert [step[1:3] for step in steps] == [([], []), ([], []), ([], [0])]


def test_fetches_of_an_op_are_in_the_order_in_which_they_are_needed():
    swaps = plan(Swap(0, 0, 1, 2), Swap(1, 0, 1, 2))
    first = instructions(RECORDED, swaps)[2][1][1]
    assert first == [0, 1]


def test_an_op_needs_what_it_and_the_gap_after_it_allocate_at_most():
    changes = (
        Change(1, 0, True),
        Change(1, 0, False),
        Change(2, 1, True),
        Change(3, 2, True),
    )
    trace = Trace("host", (op(), op()), TRACE.blocks, changes, MACHINE)
    assert needs(trace) == [20, 30]


def test_an_engine_follows_the_plan_of_what_it_recorded():
    with swapmem.Manager(device="host", device_memory="64MiB") as memory:
        engine = memory.engine
        kept = np.ones(1 << 18)
        address = kept.ctypes.data

        def iteration() -> list[str]:
            states = []
            for name in ("F", "G", "H"):
                engine.begin_op(name, [address] if name != "G" else [])
                engine.end_op([])
                memory.drain()
                states.append(memory.block(kept).state)
            return states

        engine.begin_iteration()
        assert iteration() == ["resident"] * 3
        engine.begin_iteration()
        from swapmem.planner.record import read

        recorded = read(engine.last_iteration(), MACHINE)
        index = [number for number, it in enumerate(recorded.identities) if it[0] == address]
        engine.set_plan(*instructions(recorded, plan(Swap(index[0], 0, 2, 2))))
        for _ in range(2):
            engine.follow_plan()
            assert iteration() == ["out", "out", "clean"]
            engine.begin_iteration()
        assert (kept == 1).all()
        assert memory.stats()["planned_iterations"] == 2
        assert memory.stats()["plan_misses"] == 0


def test_a_plan_with_names_missing_is_refused():
    with (
        swapmem.Manager(device="host", device_memory="64MiB") as memory,
        pytest.raises(TypeError),
    ):
        memory.engine.set_plan([], [], [("F",)])
