"""What holds for every trace, all swaps and every budget; the seed is in the test's name."""

import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest

from swapmem.planner import memory
from swapmem.planner.plan import Swap
from swapmem.planner.simulate import Infeasible, Simulation, Simulator, simulate
from swapmem.planner.trace import Trace
from swapmem.planner.trace_check import check
from tests.planner import synthetic

SEEDS = range(40)


def some_swaps(trace: Trace, seed: int, share: float = 0.6, gap: int = 3) -> list[Swap]:
    """For some blocks the longest time between two uses, fetched at any op of it."""
    pick = random.Random(seed)
    uses: dict[int, list[int]] = defaultdict(list)
    for i, block in enumerate(trace.blocks):
        if block.born is not None:
            uses[i].append(block.born // 2)
    for i, op in enumerate(trace.ops):
        for block in op.touches:
            uses[block].append(i)
    swaps = []
    for block, at in sorted(uses.items()):
        if trace.blocks[block].born is None or len(at) < 2:
            continue
        length, before, after = max((b - a, a, b) for a, b in pairwise(at))
        if length >= gap and pick.random() < share:
            swaps.append(Swap(block, before, pick.randrange(before + 1, after + 1), after))
    return sorted(swaps, key=lambda swap: swap.out_after)


def tight(trace: Trace, fraction: float) -> Trace:
    """With this share of the way from the smallest budget to the largest useful one."""
    least, most = memory.op_minimum(trace), memory.peak(trace)
    budget_bytes = least + int((most - least) * fraction)
    return replace(trace, machine=replace(trace.machine, budget_bytes=budget_bytes))


def resident_at(found: Simulation, seconds: float) -> int:
    return next(size for at, size in reversed(found.curve) if at <= seconds)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_the_budget_holds_and_the_times_add_up(seed: int, fraction: float) -> None:
    trace = tight(synthetic.random_trace(seed), fraction)
    simulator = Simulator(trace)
    for swaps in ([], some_swaps(trace, seed)):
        found = simulator.run(swaps)
        assert found.peak_bytes <= trace.machine.budget_bytes
        assert found.peak_bytes == max(size for _, size in found.curve)
        assert min(size for _, size in found.curve) >= 0
        times = [at for at, _ in found.curve]
        assert times == sorted(times)
        if trace.machine.link.slowdown == 1:
            total = found.compute_seconds + found.stall_seconds
            assert found.seconds == pytest.approx(total)
            for i, op in enumerate(trace.ops):
                ran = found.op_end_seconds[i] - found.op_begin_seconds[i]
                assert ran == pytest.approx(op.seconds)
        assert found.seconds >= found.compute_seconds * (1 - 1e-9)
        assert simulator.run(swaps) == found
        for fast, moved in (("out", found.out_bytes), ("in", found.in_bytes)):
            rate = getattr(trace.machine.link, f"{fast}_bytes_per_second")
            rate = max(rate, getattr(trace.machine.link, f"duplex_{fast}_bytes_per_second"))
            busy = [c for c in found.copies if c.direction == fast]
            assert moved == sum(c.bytes for c in busy)
            for one, other in pairwise(busy):
                assert one.ended_seconds <= other.begun_seconds + 1e-9  # one at a time
            for c in busy:
                least = c.bytes / rate + trace.machine.link.latency_seconds
                assert c.ended_seconds - c.begun_seconds >= least * (1 - 1e-9)
                assert c.asked_seconds <= c.begun_seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_the_smallest_budget_is_the_smallest_with_which_ops_can_run(seed: int) -> None:
    trace = tight(synthetic.random_trace(seed), 0.0)
    swaps = some_swaps(trace, seed)
    simulate(trace, swaps)
    machine = replace(trace.machine, budget_bytes=trace.machine.budget_bytes - 1)
    for tried in ([], swaps):
        with pytest.raises(Infeasible):
            simulate(trace, tried, machine)


def test_resident_bytes_are_those_of_live_blocks_that_are_not_out() -> None:
    checked = 0
    for seed in SEEDS:
        for trace in (
            tight(synthetic.random_trace(seed), 0.7),
            synthetic.random_trace(seed, fraction=1.0),
        ):
            found = simulate(trace, some_swaps(trace, seed))
            if found.misses:
                continue
            checked += 1
            out = {c.block: c.ended_seconds for c in found.copies if c.direction == "out"}
            back = {c.block: c for c in found.copies if c.direction == "in"}
            for i, op in enumerate(trace.ops):
                begun, ended = found.op_begin_seconds[i], found.op_end_seconds[i]
                middle = (begun + ended) / 2
                live = {
                    b
                    for b, block in enumerate(trace.blocks)
                    if (block.born is None or block.born <= 2 * i + 1)
                    and (block.freed is None or block.freed > 2 * i)
                }
                gone = {
                    b
                    for b in live & out.keys()
                    if out[b] <= middle and not (b in back and back[b].begun_seconds <= middle)
                }
                expected = sum(trace.blocks[b].bytes for b in live - gone)
                assert resident_at(found, middle) == expected, (seed, i)
                for b in set(op.touches) & out.keys():
                    if out[b] < ended - 1e-9:
                        assert back[b].ended_seconds <= begun + 1e-9, (seed, i, b)
    assert checked > 30


def twice(trace: Trace, swaps: list[Swap]) -> tuple[Trace, list[Swap]]:
    """Two iterations as one, and the swaps of both."""
    ops, count = len(trace.ops), len(trace.blocks)
    again: dict[int, int] = {}  # what a block of the second iteration is called
    blocks = list(trace.blocks)
    for i, block in enumerate(trace.blocks):
        if block.carried_from is not None:
            assert block.freed is not None
            again[i] = block.carried_from
            blocks[again[i]] = replace(blocks[again[i]], freed=block.freed + 2 * ops)
        elif block.born is None:
            again[i] = i
    for i, block in enumerate(trace.blocks):
        if i not in again:
            again[i] = len(blocks)
            freed = None if block.freed is None else block.freed + 2 * ops
            assert block.born is not None
            blocks.append(replace(block, born=block.born + 2 * ops, freed=freed))
        if block.carried_from is not None:
            blocks[i] = replace(block, carried_from=None)
    for i, block in enumerate(trace.blocks):
        if block.carried_from is not None:
            blocks[i] = replace(block, carried_from=again[block.carried_from])
    second = [
        replace(
            op,
            touches=tuple(again[b] for b in op.touches),
            writes=tuple(again[b] for b in op.writes),
        )
        for op in trace.ops
    ]
    second[0] = replace(second[0], gap_seconds=second[0].gap_seconds + trace.tail_seconds)
    changes = [replace(c, slot=c.slot + 2 * ops, block=again[c.block]) for c in trace.changes]
    assert len(blocks) <= 2 * count
    both = replace(
        trace,
        ops=(*trace.ops, *second),
        blocks=tuple(blocks),
        changes=(*trace.changes, *changes),
    )
    later = [
        Swap(
            again[s.block],
            s.out_after + ops,
            None if s.fetch_at is None else s.fetch_at + ops,
            None if s.needed_by is None else s.needed_by + ops,
        )
        for s in swaps
    ]
    return both, swaps + later


@pytest.mark.parametrize("seed", SEEDS)
def test_two_iterations_take_twice_the_time_of_one(seed: int) -> None:
    trace = tight(synthetic.random_trace(seed), 0.6)
    trace = replace(trace, tail_seconds=0.5)
    swaps = some_swaps(trace, seed)
    # Weights between their update and their next use, which is in the next iteration.
    ops = len(trace.ops)
    for block, made in enumerate(trace.blocks):
        at = [i for i, op in enumerate(trace.ops) if block in op.touches]
        if made.born is None and at:
            swaps.append(Swap(block, at[-1], ops + at[0], ops + at[0]))
        elif made.freed is None:
            swaps.append(Swap(block, at[-1], None, None))
    both, later = twice(trace, swaps)
    check(both)
    one, two = simulate(trace, swaps), simulate(both, later)
    if one.misses == 0:
        assert two.seconds == pytest.approx(2 * one.seconds)
        assert two.out_bytes == 2 * one.out_bytes
        assert two.in_bytes == 2 * one.in_bytes
        assert two.peak_bytes == one.peak_bytes
    else:  # who leaves depends on the iterations before
        assert two.seconds == pytest.approx(2 * one.seconds, rel=0.1)


def test_moving_an_iterations_begin_does_not_change_its_time() -> None:
    """Weights out over the end of the iteration cost the same as out in its middle."""
    note = synthetic.Recorder()
    weights = note.persistent(100, "W")
    for i in range(6):
        note.begin()
        note.end("F", "forward", 2.0, [weights] if i in (0, 3) else [], ())
    trace = note.trace(synthetic.Machine(100, synthetic.rates(100.0)))
    turned = replace(trace, ops=(*trace.ops[2:], *trace.ops[:2]))
    # In `trace` used by 0 and 3, in `turned` by 1 and 4.
    one = simulate(trace, [Swap(0, 0, 3, 3), Swap(0, 3, 6, 6)])
    other = simulate(turned, [Swap(0, 4, 7, 7), Swap(0, 1, 4, 4)])
    assert one.seconds == pytest.approx(other.seconds) == pytest.approx(14.0)
    assert one.in_bytes == other.in_bytes == 200
