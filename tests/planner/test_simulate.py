"""The simulator where a plan is followed, on traces that can be worked out by hand.

See small_traces.py.
"""

from dataclasses import replace

from swapmem.planner.plan import Swap
from swapmem.planner.simulate import Stall, simulate
from swapmem.planner.trace import Machine, Trace
from tests.planner.small_traces import LINK, four_ops, lanes_of
from tests.planner.synthetic import Recorder, rates


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
