"""The simulator: how long copies take, both ways, by several workers, and to a tier behind."""

import pytest

from swapmem.planner.plan import Swap
from swapmem.planner.simulate import Simulation, Stall, simulate
from swapmem.planner.trace import Machine, Rates, Trace
from tests.planner.small_traces import LINK, lanes_of
from tests.planner.synthetic import Recorder, rates


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
