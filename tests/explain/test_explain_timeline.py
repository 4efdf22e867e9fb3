"""Timelines: a run that does what was simulated gives the simulation's figures again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swapmem import plot
from swapmem.explain.figures import figures
from swapmem.explain.identity import BlockNames
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.explain.simulated import simulated
from swapmem.explain.swapped_out import swapped_out
from swapmem.explain.tiers import stored_tiers
from swapmem.explain.timeline import Copy, Tier, Timeline, memory_by_tier
from swapmem.records import TraceEvent
from tests.explain import made_up_runs
from tests.planner import synthetic

MIB = 1 << 20
SEEDS = range(12)


def random_run(seed: int) -> Run:
    trace = synthetic.random_trace(seed)
    return made_up_runs.planned_run(synthetic.with_budget(trace, 0.8), least_ops=3)


def both(run: Run) -> tuple[Timeline, Timeline]:
    assert run.trace is not None
    assert run.simulation is not None
    return measured(run), simulated(run.trace, run.simulation)


def runs() -> list[Run]:
    return [made_up_runs.resnet_run(), *map(random_run, SEEDS)]


def test_measured_is_what_was_simulated_where_the_engine_did_just_that() -> None:
    for number, run in enumerate(runs()):
        seen, foretold = both(run)
        assert run.simulation is not None
        assert seen.seconds == pytest.approx(foretold.seconds), number
        assert seen.stall_seconds == pytest.approx(run.simulation.stall_seconds), number
        assert foretold.stall_seconds == pytest.approx(run.simulation.stall_seconds), number
        assert [op.index for op in seen.ops] == [op.index for op in foretold.ops], number
        for one, other in zip(seen.ops, foretold.ops, strict=True):
            assert one.end_seconds == pytest.approx(other.end_seconds), number
        assert seen.copied_bytes(seen.ins) == run.simulation.in_bytes, number
        assert seen.copied_bytes(seen.outs) == run.simulation.out_bytes, number


def test_blocks_are_told_by_their_order_and_by_their_ids() -> None:
    for number, run in enumerate(runs()):
        seen, foretold = both(run)
        for lane in ("outs", "ins"):
            copies = [copy for copy in getattr(seen, lane) if copy.end_seconds > 0]
            inside = [copy for copy in copies if copy.end_seconds <= seen.seconds]
            blocks = sorted(copy.block for copy in inside if copy.block is not None)
            assert blocks == sorted(copy.block for copy in getattr(foretold, lane)), number


def test_without_ids_only_what_lives_for_good_has_no_name(run: Run) -> None:
    assert run.trace is not None
    seen, nameless = measured(run), measured(replace(run, block_ids=()))
    for one, other in zip((*seen.outs, *seen.ins), (*nameless.outs, *nameless.ins), strict=True):
        assert one.block is not None
        block = run.trace.blocks[one.block]
        lasting = block.born is None and block.carried_from is None
        assert other.block == (None if lasting else one.block)


def test_what_the_iteration_before_left_is_told_by_how_it_was_made_there(run: Run) -> None:
    assert run.trace is not None
    first, second, _ = plot.iterations(run.events)
    carried = [i for i, b in enumerate(run.trace.blocks) if b.carried_from is not None]
    assert carried
    names = BlockNames(run.trace, second, first, run.block_ids)
    for i in carried:
        assert names.index(made_up_runs.block_id(run.trace, i, 1)) == i
        assert names.name(made_up_runs.block_id(run.trace, i, 1)) == f"old dW (block {i})"


def test_an_iteration_that_made_other_blocks_takes_no_names_from_the_trace(run: Run) -> None:
    strange = [e for e in run.events if e.kind != "allocate" or e.bytes != 64 * MIB]
    seen = measured(replace(run, events=tuple(strange), block_ids=()))
    assert all(copy.block is None for copy in (*seen.outs, *seen.ins))


def test_ops_after_the_first_that_differs_are_not_taken_for_those_of_the_trace(run: Run) -> None:
    assert run.trace is not None
    ops = list(run.trace.ops)
    ops[40] = replace(ops[40], name="another")
    seen = measured(replace(run, trace=replace(run.trace, ops=tuple(ops))))
    assert [op.index for op in seen.ops[:41]] == [*range(40), None]
    assert all(op.index is None for op in seen.ops[40:])


def test_nested_ops_are_part_of_the_outermost() -> None:
    events = [
        TraceEvent(0.0, "iteration", 0, 0, "", 0.0, 0, 0),
        TraceEvent(0.0, "begin_op", 0, 0, "outer", 0.0, 0, 0),
        TraceEvent(1.0, "begin_op", 0, 0, "inner", 0.0, 0, 0),
        TraceEvent(2.0, "end_op", 0, 0, "inner", 1.0, 0, 0),
        TraceEvent(3.0, "end_op", 0, 0, "outer", 3.0, 0, 0),
        TraceEvent(4.0, "end_op", 0, 0, "next backward", 0.5, 0, 0),
        TraceEvent(5.0, "iteration", 0, 0, "", 0.0, 0, 0),
    ]
    seen = measured(Run(tuple(events), {}))
    assert [(op.name, op.phase) for op in seen.ops] == [
        ("outer", "forward"),
        ("next backward", "backward"),
    ]


def test_memory_never_exceeds_the_budget_and_tiers_add_up_to_all_blocks() -> None:
    for number, run in enumerate(runs()):
        assert run.trace is not None
        live = sum(block.bytes for block in run.trace.blocks if block.born is None)
        most = live
        for change in run.trace.changes:
            size = run.trace.blocks[change.block].bytes
            live += size if change.allocates else -size
            most = max(most, live)
        for timeline in both(run):
            _, (device, *stored) = memory_by_tier(timeline)
            assert max(device) <= run.trace.machine.budget_bytes, number
            sums = [sum(sizes) for sizes in zip(device, *stored, strict=True)]
            # An allocation that waits is late: then there is less at a time than in the trace.
            assert 0.5 * most < max(sums) <= most + max(b.bytes for b in run.trace.blocks), number


def test_what_was_out_before_the_first_event_is_counted_too() -> None:
    def event(time: float, kind: str, block: int, size: int = 4) -> TraceEvent:
        return TraceEvent(time, kind, block, size, "", 0.0, 0, 0)

    events = [
        event(1, "swap_in", 1),  # was out
        event(2, "evict", 1),
        event(3, "allocate", 2, 6),
        event(4, "evict", 2, 6),
        event(5, "free", 2, 6),
        event(6, "swap_in", 1),
    ]
    always_out = {"live_bytes": 100, "resident_bytes": 90}
    assert swapped_out(events, {}) == [(1, 4), (1, 0), (2, 4), (4, 10), (5, 4), (6, 0)]
    points = swapped_out(events, always_out)
    assert points == [(1, 14), (1, 10), (2, 14), (4, 20), (5, 14), (6, 10)]
    assert swapped_out([], always_out) == []


def test_the_nearest_tier_fills_first() -> None:
    points = [(0.0, 3), (1.0, 12), (2.0, 5)]
    tiers = [{"name": "pinned", "budget_bytes": 5}, {"name": "file", "budget_bytes": 100}]
    pinned, file = stored_tiers(points, tiers)
    assert pinned.points == ((0.0, 3), (1.0, 5), (2.0, 5))
    assert file.points == ((0.0, 0), (1.0, 7), (2.0, 0))
    (only,) = stored_tiers(points, ())
    assert (only.name, only.points) == ("store", tuple(points))


def test_hidden_is_the_copying_during_which_compute_did_not_wait(run: Run) -> None:
    seen = measured(run)
    busy = [seen.open_spans([copy]) for copy in (*seen.outs, *seen.ins)]
    step = seen.seconds / 20000
    moments = [(i + 0.5) * step for i in range(20000)]
    spans = sorted(span for part in busy for span in part)
    stalls = seen.open_spans(seen.stalls)

    def inside(some: list[tuple[float, float]]) -> set[int]:
        return {
            i
            for begin, end in some
            for i in range(max(int(begin / step) - 1, 0), min(int(end / step) + 2, 20000))
            if begin <= moments[i] < end
        }

    under_way = inside(spans)
    counted = 1 - len(under_way & inside(stalls)) / len(under_way)
    assert seen.hidden_share((*seen.outs, *seen.ins)) == pytest.approx(counted, abs=0.01)
    assert seen.hidden_share(()) is None


def test_bytes_count_in_the_iteration_in_which_a_copy_is_complete() -> None:
    def copy(begin: float, end: float, size: int) -> Copy:
        return Copy(None, "", size, begin, end, None)

    tier = Tier("device", ((0.0, 0),), None)
    ins = (copy(-2, -1, 1), copy(-1, 1, 2), copy(3, 4, 4), copy(9, 10, 8), copy(9, 11, 16))
    timeline = Timeline("measured", 10.0, (), (), ins, (), (tier,))
    assert timeline.copied_bytes(ins) == 2 + 4 + 8
    lane = figures(Run((), {}), timeline).in_
    assert (lane.count, lane.busy_seconds) == (3, 3.0)
    # Of what straddles the iteration only the share that moved in it.
    assert lane.bytes_per_second == pytest.approx((1 + 4 + 8 + 8) / 3.0)


def test_misses_are_copies_of_blocks_that_the_plan_keeps(run: Run) -> None:
    assert run.plan is not None
    found = figures(run, measured(run))
    assert found.in_.misses
    only = replace(run.plan, swaps=())
    everything = figures(replace(run, plan=only), measured(replace(run, plan=only)))
    assert everything.in_.misses == everything.in_.count
    assert everything.in_.miss_bytes == everything.in_.bytes
    unplanned = replace(run, plan=None)
    assert figures(unplanned, measured(unplanned)).in_.misses is None


def test_a_lane_that_is_always_busy_has_the_rate_of_the_link() -> None:
    run = made_up_runs.planned_run(synthetic.chain(12, link=synthetic.rates(5e8), fraction=0.6))
    lane = figures(run, measured(run)).out
    assert lane.bytes_per_second == pytest.approx(5e8, rel=1e-3)
    assert lane.link_bytes_per_second == 5e8


def test_iterations_that_are_not_there_are_refused(run: Run) -> None:
    for iteration in (3, -4):
        with pytest.raises(IndexError, match=f"no iteration {iteration}: the run's events hold 3"):
            measured(run, iteration)
    with pytest.raises(ValueError, match="no events"):
        measured(Run((), {}))
