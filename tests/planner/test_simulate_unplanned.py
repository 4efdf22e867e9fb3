"""The simulator where no plan helps: what leaves then, what is held, and what is a miss."""

from dataclasses import replace

import pytest

from swapmem.planner.plan import Swap
from swapmem.planner.simulate import Infeasible, Stall, simulate
from swapmem.planner.trace import Machine
from tests.planner.small_traces import LINK, four_ops, lanes_of
from tests.planner.synthetic import Recorder, rates


def test_without_a_plan_the_least_recently_used_block_leaves_and_counts_as_a_miss() -> None:
    found = simulate(four_ops(200), [])
    assert lanes_of(found) == [(0, "out", 4, 4, 5), (0, "in", 7, 7, 8)]
    assert found.stalls == (Stall(2, 1.0, None, "no plan"), Stall(3, 1.0, 0, "no plan"))
    assert (found.misses, found.miss_bytes, found.seconds) == (2, 200, 9.0)


def test_a_block_that_is_on_its_way_out_is_waited_for_before_another_leaves() -> None:
    found = simulate(four_ops(200, rates(25.0)), [Swap(0, 0, None, None)])
    # x leaves from 1 to 5, C would begin at 4.
    assert found.stalls[0] == Stall(2, 1.0, None, "copy out late")
    assert [c.block for c in found.copies if c.direction == "out"] == [0]


def test_a_touched_block_that_no_plan_fetches_is_a_miss() -> None:
    found = simulate(four_ops(200), [Swap(0, 0, None, None)])
    assert found.stalls == (Stall(3, 1.0, 0, "no plan"),)
    assert found.misses == 1


def test_what_an_op_holds_never_leaves_for_it() -> None:
    note = Recorder()
    for name in "xy":
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", 1.0, ())
    note.begin()
    note.allocate(100, "z")
    note.end("sum", "forward", 1.0, [0, 1])
    for block in range(3):
        note.free(block)
    trace = note.trace(Machine(299, LINK))
    with pytest.raises(Infeasible, match="op 2, sum: 300 bytes") as caught:
        simulate(trace, [])
    found = caught.value
    assert (found.index, found.needed_bytes, found.budget_bytes) == (2, 300, 299)
    assert simulate(replace(trace, machine=Machine(300, LINK)), []).misses == 0


def test_what_may_not_leave_does_not() -> None:
    trace = four_ops(200)
    kept = replace(trace.blocks[0], eligible=False, reason="a view of it is held")
    found = simulate(replace(trace, blocks=(kept, *trace.blocks[1:])), [])
    assert {c.block for c in found.copies} == {1}  # y, though it was used later


def test_more_at_the_begin_than_the_budget_holds_is_out_where_it_may_be() -> None:
    note = Recorder()
    for name in "abc":
        note.persistent(100, name)
    for block in range(3):
        note.begin()
        note.end("F", "forward", 1.0, [block])
    found = simulate(note.trace(Machine(200, LINK)), [])
    # In a circle the least recently used block is always the one that is needed next. Nobody
    # writes to them, so from the second iteration on they leave at once.
    assert [c.block for c in found.copies if c.direction == "in"] == [0, 1, 2]
    assert found.peak_bytes == 200
    blocks = tuple(replace(b, eligible=False) for b in note.blocks)
    fixed = replace(note.trace(Machine(200, LINK)), blocks=blocks)
    with pytest.raises(Infeasible):
        simulate(fixed, [])


def test_what_was_just_fetched_is_not_the_first_to_leave() -> None:
    note = Recorder()
    for name in "xyz":
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", 4.0, ())
    note.free(2)
    for touched in ([1], []):
        note.begin()
        note.end("D", "forward", 4.0, touched)
    note.begin()
    note.allocate(100, "big")
    note.end("E", "forward", 4.0, [])
    note.begin()
    note.end("F", "backward", 4.0, [0])
    for block in (0, 1, 3):
        note.free(block)
    # x was used long before y, but is back from 16 on; y leaves for what E allocates.
    found = simulate(note.trace(Machine(200, LINK)), [Swap(0, 1, 4, 6)])
    assert [(c.block, c.direction) for c in found.copies] == [(0, "out"), (0, "in"), (1, "out")]


def test_a_block_whose_leaving_was_given_up_can_leave_later() -> None:
    note = Recorder()
    for name in "xyz":
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", 1.0, ())
    note.begin()
    note.end("D", "backward", 1.0, [0])
    note.begin()
    note.end("E", "backward", 1.0, [2])
    note.begin()
    note.end("F", "backward", 1.0, [1, 2])
    note.begin()
    note.allocate(100, "w")
    note.end("G", "backward", 1.0, [1])
    for block in range(4):
        note.free(block)
    # z pushes x out; D wants it again. y leaves for it while x arrives. For G x has to leave again.
    found = simulate(note.trace(Machine(200, LINK)), [])
    assert found.peak_bytes == 200
    assert [c.block for c in found.copies if c.direction == "out"].count(0) >= 1


def test_an_allocation_goes_before_copies_in_that_wait_for_the_same_room() -> None:
    note = Recorder()
    weights = note.persistent(100, "W")
    fixed = note.persistent(100, "P")
    old = note.persistent(100, "old")
    batch = note.allocate(100, "images")
    note.free(old)
    note.begin()
    note.end("A", "forward", 5.0, [batch, fixed])
    note.free(batch)
    note.begin()
    note.end("B", "forward", 5.0, [weights, fixed])
    note.begin()
    new = note.allocate(100, "new")
    note.end("C", "backward", 5.0, [fixed])
    note.begin()
    note.end("D", "backward", 5.0, [fixed])
    note.blocks[old] = replace(note.blocks[old], carried_from=new)
    swaps = [Swap(weights, 1, 3, 5), Swap(new, 3, None, None)]
    found = simulate(note.trace(Machine(200, LINK)), swaps)
    # W is asked for in D, and there is room for a block when the gradient is out: for the images.
    assert found.misses == 0
    assert found.stalls[0] == Stall(0, 1.0, None, "copy out late")
    assert [(*c[:2], *c[3:]) for c in lanes_of(found)] == [
        (old, "out", 0, 1),
        (weights, "in", 6, 7),
    ]


def test_a_block_that_comes_from_nowhere_is_there_in_each_iteration() -> None:
    note = Recorder()
    stray = note.persistent(100, "stray")
    weights = note.persistent(100, "W")
    for touched in ([weights], [], [weights]):
        note.begin()
        note.end("F", "forward", 2.0, touched)
    note.free(stray)
    found = simulate(note.trace(Machine(200, LINK)), [Swap(weights, 0, 2, 2)])
    # In the second iteration W leaves at once, for its copy is still valid.
    assert list(found.curve) == [(0, 200), (2, 100), (4, 200), (7, 100)]
