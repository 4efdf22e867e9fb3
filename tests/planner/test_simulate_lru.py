"""The simulated engine without a plan: what it does on its own to keep ops from waiting."""

from dataclasses import replace

import pytest

from swapmem.planner import memory
from swapmem.planner.simulate import Simulation, lru, simulate
from swapmem.planner.trace import Machine, Trace
from tests.planner import synthetic
from tests.planner.synthetic import Recorder, rates


def tight(trace: Trace, fraction: float) -> Trace:
    least, most = memory.op_minimum(trace), memory.peak(trace)
    budget_bytes = least + int((most - least) * fraction)
    return replace(trace, machine=replace(trace.machine, budget_bytes=budget_bytes))


def copies(found: Simulation, way: str) -> list[tuple[int, float, float]]:
    chosen = [c for c in found.copies if c.direction == way]
    return [(c.block, round(c.begun_seconds, 6), round(c.ended_seconds, 6)) for c in chosen]


def test_with_room_for_all_nothing_moves() -> None:
    found = lru(synthetic.resnet_like(2, 1, fraction=1.2))
    assert (found.copies, found.misses) == ((), 0)
    assert found.seconds == pytest.approx(found.compute_seconds)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.8])
def test_the_budget_holds_and_the_times_add_up(seed: int, fraction: float) -> None:
    trace = tight(synthetic.random_trace(seed), fraction)
    found = lru(trace)
    assert found.peak_bytes <= trace.machine.budget_bytes
    assert min(size for _, size in found.curve) >= 0
    if trace.machine.link.slowdown == 1:
        total = found.compute_seconds + found.stall_seconds
        assert found.seconds == pytest.approx(total)
    assert lru(trace) == found


def rows(budget_bytes: int) -> Trace:
    """16 ops make a block of 50 bytes each, and in backward 16 ops need them again."""
    note = Recorder()
    for i in range(16):
        note.begin()
        note.allocate(50, str(i))
        note.end("F", "forward", 3.0, ())
    for i in reversed(range(16)):
        note.begin()
        note.end("F backward", "backward", 3.0, [i])
    for i in range(16):
        note.free(i)
    return note.trace(Machine(budget_bytes, rates(100.0)))


def test_what_leaves_next_is_copied_out_ahead() -> None:
    found = lru(rows(600))
    # An eighth is kept ready: after op 10 there is room for one block, so the oldest is copied;
    # after op 11 there is none, so the next one is.
    assert copies(found, "out")[:3] == [(0, 33, 33.5), (1, 36, 36.5), (2, 39, 39.5)]
    assert (found.stalls, found.misses) == ((), 4)
    assert simulate(rows(600), []).stall_seconds > 0


def test_in_backward_the_next_blocks_are_fetched_ahead_in_place_of_what_is_done_with() -> None:
    found = lru(rows(600))
    # A quarter is fetched ahead: 3 blocks. Those of ops 15 to 13 backward are done with by then.
    fetched = copies(found, "in")
    assert [block for block, _, _ in fetched] == [3, 2, 1, 0]
    ahead = [found.op_begin_seconds[31 - block] - begun for block, begun, _ in fetched]
    assert ahead == [8.5, 8.5, 9.0, 9.0]  # three ops, less a copy that goes first


def test_a_copy_ahead_is_worth_nothing_once_the_block_is_written() -> None:
    trace = rows(600)
    ops = list(trace.ops)
    ops[11] = replace(ops[11], touches=(0,), writes=(0,))
    written = lru(replace(trace, ops=tuple(ops)))
    # Block 0 was copied ahead in op 11, which writes to it: others leave, and it much later.
    assert [block for block, _, _ in copies(written, "out")][:4] == [0, 1, 2, 3]
    assert 0 not in [block for block, _, _ in copies(written, "in")]


@pytest.mark.parametrize("fraction", [0.4, 0.6])
def test_it_waits_less_than_evicting_on_demand_alone(fraction: float) -> None:
    for trace in (synthetic.chain(32), synthetic.resnet_like(3, 3), synthetic.with_branches()):
        tried = synthetic.with_budget(trace, fraction)
        assert lru(tried).seconds < simulate(tried, []).seconds
