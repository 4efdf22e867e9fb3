"""The simulator on traces so small that every figure can be worked out by hand.

All blocks have 100 bytes unless said otherwise and the link copies 100 bytes a second each way.
"""

from dataclasses import replace

import pytest

from swapmem.planner.plan import Swap
from swapmem.planner.simulate import Infeasible, Simulation, Stall, simulate
from swapmem.planner.trace import Machine, Rates, Trace
from tests.planner.synthetic import Recorder, rates

LINK = rates(100.0)


def on(trace: Trace, budget_bytes: int, link: Rates = LINK, **more: object) -> Trace:
    return replace(trace, machine=Machine(budget_bytes, link, **more))  # type: ignore[arg-type]


def four_ops(budget_bytes: int, link: Rates = LINK) -> Trace:
    """A makes x; B makes y; C makes z, and y goes; D reads x."""
    note = Recorder()
    for name, seconds in (("A", 1.0), ("B", 3.0), ("C", 2.0)):
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", seconds, ())
    note.free(1)
    note.begin()
    note.end("D", "backward", 1.0, [0])
    note.free(0)
    note.free(2)
    return note.trace(Machine(budget_bytes, link))


def lanes_of(found: Simulation) -> list[tuple[int, str, float, float, float]]:
    return [(c.block, c.direction, *(round(t, 9) for t in c[2:5])) for c in found.copies]


def test_with_room_for_all_an_iteration_takes_what_its_ops_take() -> None:
    found = simulate(four_ops(300), [])
    assert (found.seconds, found.compute_seconds, found.peak_bytes) == (7.0, 7.0, 300)
    assert (found.copies, found.stalls, found.misses, found.cancelled) == ((), (), 0, 0)
    assert found.op_begin_seconds == (0.0, 1.0, 4.0, 6.0)
    assert found.op_end_seconds == (1.0, 4.0, 6.0, 7.0)
    curve = [(0, 0), (0, 100), (1, 200), (4, 300), (6, 200), (7, 0)]
    assert list(found.curve) == curve


def test_a_copy_in_that_is_asked_for_too_late_stalls_the_op() -> None:
    found = simulate(four_ops(200), [Swap(0, 0, 3, 3)])
    assert lanes_of(found) == [(0, "out", 1, 1, 2), (0, "in", 6, 6, 7)]
    assert found.stalls == (Stall(3, 1.0, 0, "copy in late"),)
    assert (found.seconds, found.stall_seconds, found.peak_bytes) == (8.0, 1.0, 200)
    assert (found.out_bytes, found.in_bytes) == (100, 100)
    assert list(found.curve)[-3:] == [(6, 100), (6, 200), (8, 0)]


def test_a_copy_in_that_is_asked_for_early_hides_where_there_is_room() -> None:
    found = simulate(four_ops(300), [Swap(0, 0, 2, 3)])
    assert lanes_of(found) == [(0, "out", 1, 1, 2), (0, "in", 4, 4, 5)]
    assert (found.seconds, found.stalls, found.peak_bytes) == (7.0, (), 300)


def test_a_copy_in_waits_for_room_and_for_what_the_running_op_will_allocate() -> None:
    # At the begin of B there would be room for x, but not beside y.
    found = simulate(four_ops(200), [Swap(0, 0, 2, 3)])
    assert lanes_of(found) == [(0, "out", 1, 1, 2), (0, "in", 4, 6, 7)]
    assert found.stalls == (Stall(3, 1.0, 0, "copy in late"),)


def test_an_allocation_waits_for_copies_out() -> None:
    note = Recorder()
    for name in "AB":
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", 1.0, ())
    note.free(1)
    note.begin()
    note.end("C", "backward", 2.0, [0])
    note.free(0)
    found = simulate(note.trace(Machine(150, LINK)), [Swap(0, 0, 2, 2)])
    assert found.stalls == (
        Stall(1, 1.0, None, "copy out late"),
        Stall(2, 1.0, 0, "copy in late"),
    )
    assert (found.seconds, found.peak_bytes) == (6.0, 100)


def test_a_block_needed_before_its_copy_out_is_complete_stays() -> None:
    trace = four_ops(300, rates(10.0))  # a copy takes 10 seconds
    found = simulate(trace, [Swap(0, 0, 3, 3)])
    assert (found.cancelled, found.copies, found.stalls, found.seconds) == (1, (), (), 7.0)
    early = simulate(trace, [Swap(0, 0, 1, 3)])
    assert (early.cancelled, early.copies, early.seconds) == (1, (), 7.0)


def test_a_copy_that_is_given_up_leaves_the_lane_to_the_next() -> None:
    trace = four_ops(300, rates(25.0))
    found = simulate(trace, [Swap(0, 0, 1, 3), Swap(1, 1, None, None)])
    assert [(c.block, c.direction) for c in found.copies] == []  # y is freed before it is through
    assert found.cancelled == 1
    assert found.seconds == 7.0


def test_a_block_freed_on_its_way_takes_nothing_with_it() -> None:
    for fetch_at in (None, 3):
        found = simulate(four_ops(300, rates(20.0)), [Swap(1, 1, fetch_at, fetch_at)])
        assert (found.copies, found.seconds, found.curve[-1]) == ((), 7.0, (7.0, 0))


def test_a_copy_out_of_what_is_freed_makes_way_for_the_next_at_once() -> None:
    note = Recorder()
    note.begin()
    for name in "xy":
        note.allocate(100, name)
    note.end("A", "forward", 0.5, ())
    note.free(0)
    note.allocate(200, "z")
    note.begin()
    note.end("B", "forward", 1.0, ())
    note.free(1)
    note.free(2)
    found = simulate(
        note.trace(Machine(200, LINK)), [Swap(0, 0, None, None), Swap(1, 0, None, None)]
    )
    assert lanes_of(found) == [(1, "out", 0.5, 0.5, 1.5)]
    assert found.stalls == (Stall(1, 1.0, None, "copy out late"),)


# --- rates


def two_way(link: Rates, workers: int = 1) -> Trace:
    """Two blocks leave after A; while the third leaves after B the first comes back."""
    note = Recorder()
    note.begin()
    for name in "xyz":
        note.allocate(100, name)
    note.end("A", "forward", 10.0, ())
    note.begin()
    note.end("B", "forward", 10.0, ())
    note.begin()
    note.end("C", "forward", 10.0, ())
    note.begin()
    note.end("D", "backward", 10.0, [0, 1, 2])
    for block in range(3):
        note.free(block)
    return note.trace(Machine(300, link, workers=workers))


def test_copies_of_both_directions_at_once_have_the_rates_measured_so() -> None:
    link = Rates(100.0, 50.0, 40.0, 20.0)
    found = simulate(two_way(link), [Swap(0, 0, 2, 3), Swap(2, 1, 3, 3)])
    # z: 2.5 s at 40/s. x: these 2.5 s at 20/s, then 50 bytes at 50/s.
    assert lanes_of(found) == [
        (0, "out", 10, 10, 11),
        (2, "out", 20, 20, 22.5),
        (0, "in", 20, 20, 23.5),
        (2, "in", 30, 30, 32),
    ]
    assert found.stalls == (Stall(3, 2.0, 2, "copy in late"),)


def test_each_copy_costs_its_latency() -> None:
    link = rates(100.0, latency_seconds=0.5)
    found = simulate(two_way(link), [Swap(0, 0, 2, 3), Swap(1, 0, 2, 3)])
    assert lanes_of(found) == [
        (0, "out", 10, 10, 11.5),
        (1, "out", 10, 11.5, 13),
        (0, "in", 20, 20, 21.5),
        (1, "in", 20, 21.5, 23),
    ]


def test_each_of_several_copies_has_its_latency_once() -> None:
    note = Recorder()
    note.begin()
    note.allocate(100, "small")
    note.allocate(300, "large")
    note.end("A", "forward", 1.0, ())
    note.begin()
    note.end("B", "forward", 9.0, ())
    note.free(0)
    note.free(1)
    link = rates(100.0, latency_seconds=1.0)
    trace = note.trace(Machine(400, link, workers=2))
    found = simulate(trace, [Swap(0, 0, None, None), Swap(1, 0, None, None)])
    # Both wait a second and share the rate for two; the larger has 200 bytes left then.
    assert lanes_of(found) == [(0, "out", 1, 1, 4), (1, "out", 1, 1, 6)]


def test_workers_share_the_rate() -> None:
    found = simulate(two_way(LINK, workers=2), [Swap(0, 0, 2, 3), Swap(1, 0, 2, 3)])
    assert lanes_of(found) == [
        (0, "out", 10, 10, 12),
        (1, "out", 10, 10, 12),
        (0, "in", 20, 20, 22),
        (1, "in", 20, 20, 22),
    ]


def test_ops_take_longer_while_copies_run_and_only_then() -> None:
    found = simulate(two_way(rates(100.0, slowdown=1.25)), [Swap(0, 0, 2, 3)])
    # The copy runs for a second of B, in which B does 0.8 s of its work; and so in C.
    assert found.op_end_seconds == pytest.approx((10, 20.2, 30.4, 40.4))
    assert (found.stalls, found.compute_seconds) == ((), 40.0)


def test_copies_in_asked_for_at_once_start_in_the_order_in_which_they_are_needed() -> None:
    note = Recorder()
    note.begin()
    for name in "xyz":
        note.allocate(100, name)
    note.end("A", "forward", 10.0, ())
    for touched in ([], [], [2], [0], [1]):
        note.begin()
        note.end("B", "backward", 10.0, touched)
    for block in range(3):
        note.free(block)
    swaps = [Swap(1, 0, 2, 5), Swap(0, 0, 2, 4), Swap(2, 0, 2, 3)]
    found = simulate(note.trace(Machine(300, LINK)), swaps)
    assert [(c.block, c.direction) for c in found.copies] == [
        *[(1, "out"), (0, "out"), (2, "out")],
        *[(2, "in"), (0, "in"), (1, "in")],
    ]


def test_the_block_that_an_op_waits_for_goes_first() -> None:
    note = Recorder()
    note.begin()
    for name in "xyz":
        note.allocate(100, name)
    note.end("A", "forward", 1.0, ())
    for seconds, touched in ((40.0, []), (1.0, []), (1.0, []), (1.0, [0]), (50.0, []), (1.0, [1])):
        note.begin()
        note.end("B", "backward", seconds, touched)
    for block in range(3):
        note.free(block)
    swaps = [Swap(2, 0, 2, 6), Swap(1, 0, 3, 6), Swap(0, 0, 4, 4)]
    found = simulate(note.trace(Machine(300, rates(10.0))), swaps)
    # The copy in of z runs, that of y waits; x passes it.
    assert [(c.block, c.begun_seconds) for c in found.copies[3:]] == [(2, 41), (0, 51), (1, 61)]
    assert found.stalls == (Stall(4, 18.0, 0, "copy in late"),)


# --- copies that are still valid


def test_a_block_that_nobody_wrote_to_leaves_again_without_a_copy() -> None:
    def trace_that_writes(writes: tuple[int, ...]) -> Trace:
        note = Recorder()
        note.begin()
        note.allocate(100, "x")
        note.end("A", "forward", 2.0, ())
        for touched in ([], [0], [], [0]):
            note.begin()
            written = [b for b in touched if b in writes]
            note.end("B", "backward", 2.0, touched, written)
        note.free(0)
        return note.trace(Machine(100, LINK))

    swaps = [Swap(0, 0, 2, 2), Swap(0, 2, 4, 4)]
    clean = simulate(trace_that_writes(()), swaps)
    assert [(c.direction, c.begun_seconds) for c in clean.copies] == [
        ("out", 2),
        ("in", 4),
        ("in", 9),
    ]
    assert (7.0, 0) in clean.curve  # at once, at the end of the op
    dirty = simulate(trace_that_writes((0,)), swaps)
    assert [(c.direction, c.begun_seconds) for c in dirty.copies] == [
        ("out", 2),
        ("in", 4),
        ("out", 7),
        ("in", 9),
    ]


# --- what lives longer than an iteration


def with_weights(budget_bytes: int, *, written: bool) -> Trace:
    """W is used by the first and the last op; between them two blocks of 100 bytes live."""
    note = Recorder()
    weights = note.persistent(100, "W")
    note.begin()
    note.end("A", "forward", 2.0, [weights])
    for name in "xy":
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", 3.0, ())
    note.free(1)
    note.free(2)
    note.begin()
    note.end("update", "update", 2.0, [weights], [weights] if written else [])
    return note.trace(Machine(budget_bytes, LINK), tail_seconds=3.0)


def test_a_block_out_across_the_iterations_end_is_out_at_the_next_begin() -> None:
    swaps = [Swap(0, 0, 3, 3), Swap(0, 3, 4, 4)]
    found = simulate(with_weights(200, written=True), swaps)
    # It leaves in the tail, comes back for A with a stall, and leaves again at once for x and y.
    assert lanes_of(found) == [
        (0, "in", 0, 0, 1),
        (0, "in", 9, 9, 10),
        (0, "out", 12, 12, 13),
    ]
    assert found.stalls == (
        Stall(0, 1.0, 0, "copy in late"),
        Stall(3, 1.0, 0, "copy in late"),
    )
    assert found.seconds == 15.0
    assert found.curve[0] == (0.0, 0)


def test_a_copy_that_stays_valid_across_the_end_is_found_in_the_steady_state() -> None:
    found = simulate(with_weights(200, written=False), [Swap(0, 0, 3, 3)])
    # In the first iteration it was copied out; since then it leaves at once.
    assert [c.direction for c in found.copies] == ["in"]


def test_a_copy_under_way_at_the_end_goes_on_in_the_next_iteration() -> None:
    trace = replace(with_weights(300, written=True), tail_seconds=0.25)
    found = simulate(trace, [Swap(0, 3, 5, 7)])
    # Asked for at 10 of 10.25 seconds; needed by A again before it is through.
    assert (found.cancelled, found.copies, found.seconds) == (1, (), 10.25)
    apart = replace(trace, ops=(replace(trace.ops[0], touches=()), *trace.ops[1:]))
    found = simulate(apart, [Swap(0, 3, 6, 7)])
    assert lanes_of(found) == [(0, "out", -0.25, -0.25, 0.75), (0, "in", 5, 5, 6)]


def with_gradient(budget_bytes: int) -> Trace:
    """A gradient made by the last op; the next iteration frees it after its first op."""
    note = Recorder()
    old = note.persistent(100, "old")
    note.begin()
    note.allocate(100, "x")
    note.end("A", "forward", 2.0, ())
    note.free(old)
    note.free(1)
    note.begin()
    new = note.allocate(100, "new")
    note.end("B", "backward", 2.0, ())
    note.blocks[old] = replace(note.blocks[old], carried_from=new)
    return note.trace(Machine(budget_bytes, LINK), tail_seconds=2.0)


def test_what_an_iteration_leaves_to_the_next_is_out_there_if_it_was_swapped_out() -> None:
    stays = simulate(with_gradient(200), [])
    assert (stays.peak_bytes, stays.curve[0]) == (200, (0.0, 100))
    leaves = simulate(with_gradient(100), [Swap(2, 1, None, None)])
    assert lanes_of(leaves) == [(2, "out", 4, 4, 5)]
    assert (leaves.peak_bytes, leaves.curve[0], leaves.seconds) == (100, (0.0, 0), 6.0)
    assert (leaves.misses, leaves.stalls) == (0, ())


# --- where no plan helps


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
    assert simulate(on(trace, 300), []).misses == 0


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


# --- a tier behind the store


def overflowing(store_bytes: int | None, behind: Rates | None, link: Rates = LINK) -> Simulation:
    note = Recorder()
    note.begin()
    for name in "abcd":
        note.allocate(100, name)
    note.end("A", "forward", 1.0, ())
    note.begin()
    note.end("B", "forward", 100.0, ())
    for block in (3, 2, 1, 0):
        note.begin()
        note.end("C", "backward", 1.0, [block])
        note.free(block)
    machine = Machine(400, link, store_bytes=store_bytes, behind=behind)
    swaps = [Swap(b, 0, 2, 5 - b) for b in range(4)]
    return simulate(note.trace(machine), swaps)


def test_what_the_store_has_no_room_for_goes_on_at_the_rate_of_the_tier_behind() -> None:
    free = overflowing(None, None)
    assert [round(c.ended_seconds, 6) for c in free.copies[:4]] == [2, 3, 4, 5]
    # With 250 bytes of store the oldest goes on while the third comes: 10 s each.
    slow = overflowing(250, rates(10.0))
    assert [round(c.ended_seconds, 6) for c in slow.copies[:4]] == [2, 3, 13, 23]
    # Those that are behind come back at its rate, the others at the link's.
    ins = {c.block: c.ended_seconds - c.begun_seconds for c in slow.copies[4:]}
    assert ins == pytest.approx({3: 1, 2: 1, 1: 10, 0: 10})


def test_a_block_larger_than_the_store_passes_through_it() -> None:
    found = overflowing(50, rates(10.0))
    assert [round(c.ended_seconds, 6) for c in found.copies[:4]] == [11, 21, 31, 41]


def test_what_goes_on_behind_the_store_does_not_slow_ops_down() -> None:
    link = rates(100.0, slowdown=2.0)
    found = overflowing(250, rates(10.0), link)
    # Four copies out of a second each, in each of which B does half a second of its work.
    assert found.op_end_seconds[1] == pytest.approx(101 + 2)


def test_a_store_that_is_full_for_good_leaves_blocks_where_they_are() -> None:
    found = overflowing(250, None)
    assert [c.block for c in found.copies if c.direction == "out"] == [0, 1]
    assert found.cancelled == 2
