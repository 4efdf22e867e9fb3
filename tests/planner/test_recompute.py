"""A trace with segments recomputed: what runs again, what goes and comes back, and when."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from swapmem.planner.memory import profile
from swapmem.planner.recompute import candidates, positions, with_recompute
from swapmem.planner.trace import Block, Change, Trace
from tests.planner import synthetic
from tests.planner.synthetic import MIB, Layer

UNIT = [
    Layer("conv", (0,), 64 * MIB, 1.0, workspace_bytes=32 * MIB, segment="unit"),
    Layer("norm", (1,), 64 * MIB, 0.5, segment="unit"),
    Layer("relu", (2,), 64 * MIB, 0.25, False, True, segment="unit"),
]
ENDS = Layer("stem", (-1,), 64 * MIB, 1.0), Layer("last", (3,), MIB, 0.1)


def unit(**options) -> Trace:
    """A stem, a segment of convolution, normalization and ReLU, and a last layer."""
    return synthetic.network([ENDS[0], *UNIT, ENDS[1]], frees_late=True, **options)


def assert_consistent(trace: Trace) -> None:
    """Every touch is of something that is there; blocks and changes tell the same story."""
    slots = [change.slot for change in trace.changes]
    assert slots == sorted(slots)
    born, freed = {}, {}
    for place, change in enumerate(trace.changes):
        moments = born if change.allocates else freed
        assert change.block not in moments
        moments[change.block] = (change.slot, place)
    for number, block in enumerate(trace.blocks):
        assert born.get(number, (None,))[0] == block.born
        assert freed.get(number, (None,))[0] == block.freed
        if number in born and number in freed:
            assert born[number] < freed[number]
    for index, op in enumerate(trace.ops):
        assert set(op.writes) <= set(op.touches)
        for number in op.touches:
            block = trace.blocks[number]
            assert block.born is None or block.born <= 2 * index + 1
            assert block.freed is None or block.freed > 2 * index + 1


def names(trace: Trace) -> list[str]:
    return [op.name for op in trace.ops]


def named(trace: Trace, name: str) -> list[int]:
    return [number for number, block in enumerate(trace.blocks) if block.name == name]


def test_what_backward_needs_and_nothing_else_does_is_not_stored():
    trace = unit()
    (segment,) = candidates(trace)
    assert segment.name == "unit"
    assert (segment.first, segment.last) == (1, 3)
    # The output of the ReLU is what the last layer reads; that of the stem was there before.
    assert [trace.blocks[block].name for block in segment.blocks] == ["conv output"]
    assert segment.bytes == 64 * MIB
    # Only the normalization keeps it, and only its backward needs it.
    assert trace.ops[segment.resumes_at].name == "norm backward"
    # The normalization need not run again to have its own input.
    assert segment.again == (1,)
    assert segment.seconds == 1.0


def test_the_forward_ops_run_again_right_before_the_first_op_that_needs_them():
    trace = with_recompute(unit(), {"unit"})
    assert names(trace)[:10] == [
        "stem",
        "conv",
        "norm",
        "relu",
        "last",
        "last backward",
        "relu backward",
        "conv",
        "norm backward",
        "conv backward",
    ]
    assert trace.ops[7].phase == "forward"
    assert trace.ops[7].segment == "unit"
    assert_consistent(trace)


def test_dropped_blocks_are_free_from_the_end_of_the_segment_until_it_runs_again():
    old, new = unit(), with_recompute(unit(), {"unit"})
    at = positions(old, {"unit"})
    before, after = profile(old), profile(new)
    for index, op in enumerate(old.ops):
        saved = before[2 * index + 1] - after[2 * at[index] + 1]
        if op.name in ("last", "last backward", "relu backward"):
            assert saved == 64 * MIB
        elif op.phase == "forward" or op.name == "norm backward":
            assert saved == 0
        elif op.phase == "backward":
            # Consumed: where the graph lives on, what was stored lives with it.
            assert saved == 64 * MIB


def test_what_runs_again_makes_its_workspace_again_and_frees_it():
    new = with_recompute(unit(), {"unit"})
    (workspace,) = named(new, "workspace again")
    assert new.blocks[workspace].born == new.blocks[workspace].freed == 2 * 7 + 1


def test_backward_finds_the_copy_in_place_of_the_block():
    new = with_recompute(unit(), {"unit"})
    (block,), (copy,) = named(new, "conv output"), named(new, "conv output again")
    users = {i: op.name for i, op in enumerate(new.ops) if block in op.touches}
    assert users == {2: "norm"}
    users = {i: op.name for i, op in enumerate(new.ops) if copy in op.touches}
    assert users == {8: "norm backward"}
    assert new.blocks[copy].freed == 2 * 8 + 2


def test_what_a_segment_reads_lives_until_it_has_run_again():
    first = replace(UNIT[0], keeps_inputs=False)
    old = synthetic.network([ENDS[0], first, *UNIT[1:], ENDS[1]])
    new = with_recompute(old, {"unit"})
    (read,) = named(old, "stem output")
    assert old.blocks[read].freed == 2 * 1 + 2
    assert new.blocks[read].freed == 2 * 7 + 2
    assert_consistent(new)


def test_results_of_a_segment_stay_and_what_computes_them_again_is_let_go():
    # The ReLU is in the midst: its output is read by the second normalization only.
    layers = [*UNIT, Layer("conv", (3,), 64 * MIB, 1.0, segment="unit")]
    layers.append(Layer("norm", (4,), 64 * MIB, 0.5, segment="unit"))
    old = synthetic.network([ENDS[0], *layers, replace(ENDS[1], inputs=(5, 1))], frees_late=True)
    (segment,) = candidates(old)
    (result,) = [b for b in named(old, "conv output") if b not in segment.blocks]
    new = with_recompute(old, {"unit"})
    assert new.blocks[result].freed is not None
    (again,) = [
        b
        for b in named(new, "conv output again")
        if new.blocks[b].born == new.blocks[named(new, "workspace again")[0]].born
    ]
    repeated = [i for i, op in enumerate(new.ops) if op.phase == "forward"][-len(segment.again) :]
    assert new.blocks[again].freed == 2 * repeated[-1] + 2
    assert_consistent(new)


def test_what_something_outside_the_graph_refers_to_is_not_dropped():
    trace = unit()
    (segment,) = candidates(trace)
    blocks = list(trace.blocks)
    blocks[segment.blocks[0]] = replace(blocks[segment.blocks[0]], eligible=False)
    assert candidates(replace(trace, blocks=tuple(blocks))) == ()


@pytest.mark.parametrize(("size", "is_kept"), [(4 * MIB, True), (4 * MIB + 1, False)])
def test_what_is_small_beside_the_largest_of_its_segment_is_kept(size, is_kept):
    trace = unit()
    small = len(trace.blocks)
    made = Change(3, small, True)
    at = trace.changes.index(next(change for change in trace.changes if change.slot == 3))
    ops = list(trace.ops)
    ops[7] = replace(ops[7], touches=(*ops[7].touches, small))
    trace = replace(
        trace,
        ops=tuple(ops),
        blocks=(*trace.blocks, Block(size, 3, None)),
        changes=(*trace.changes[:at], made, *trace.changes[at:]),
    )
    (segment,) = candidates(trace)
    assert (small not in segment.blocks) == is_kept
    new = with_recompute(trace, {"unit"})
    assert_consistent(new)
    # What was kept is no reason to do it again.
    assert candidates(new) == ()


def test_what_a_segment_changes_outside_it_changes_once():
    trace = synthetic.network([ENDS[0], replace(UNIT[0], parameter_bytes=MIB), *UNIT[1:], ENDS[1]])
    (weights,) = named(trace, "conv.W")
    (normed,) = named(trace, "conv output")
    ops = list(trace.ops)
    ops[1] = replace(ops[1], writes=(weights,))
    new = with_recompute(replace(trace, ops=tuple(ops)), {"unit"})
    assert [op.writes for op in new.ops if op.name == "conv"] == [(weights,), ()]
    assert all(weights in op.touches for op in new.ops if op.name == "conv")
    assert normed in new.ops[2].touches


def test_what_is_allocated_after_what_runs_again_is_not_allocated_again():
    trace = unit()
    between = len(trace.blocks)
    made = Change(4, between, True)
    at = next(i for i, change in enumerate(trace.changes) if change.slot > 4)
    trace = replace(
        trace,
        blocks=(*trace.blocks, Block(MIB, 4, None, name="between")),
        changes=(*trace.changes[:at], made, *trace.changes[at:]),
    )
    new = with_recompute(trace, {"unit"})
    assert_consistent(new)
    assert named(new, "between again") == []


def test_names_that_are_no_candidates_change_nothing():
    trace = unit()
    assert with_recompute(trace, {"other"}) is trace
    assert with_recompute(trace, ()) is trace
    assert positions(trace, ()) == list(range(len(trace.ops)))


def test_a_segment_that_runs_again_already_is_no_candidate():
    once = with_recompute(unit(), {"unit"})
    assert candidates(once) == ()
    assert with_recompute(once, {"unit"}) is once


def test_what_would_have_been_left_over_for_the_next_iteration_is_there_no_more():
    trace = unit()
    (segment,) = candidates(trace)
    (block,) = segment.blocks
    freed = trace.blocks[block].freed
    blocks = list(trace.blocks)
    blocks[block] = replace(blocks[block], freed=None)
    left_over = replace(blocks[block], born=None, freed=freed, carried_from=block)
    changes = [
        replace(change, block=len(blocks))
        if change.block == block and not change.allocates
        else change
        for change in trace.changes
    ]
    trace = replace(trace, blocks=(*blocks, left_over), changes=tuple(changes))
    new = with_recompute(trace, {"unit"})
    assert_consistent(new)
    assert profile(trace)[0] - profile(new)[0] == 64 * MIB


@pytest.mark.parametrize(
    "trace",
    [synthetic.resnet_like(), synthetic.resnet_like(frees_late=False), synthetic.with_branches()],
    ids=["resnet", "resnet freed early", "branches"],
)
def test_every_segment_recomputed_takes_less_memory_and_more_time(trace):
    every = {segment.name for segment in candidates(trace)}
    assert every == {op.segment for op in trace.ops} - {None}
    new = with_recompute(trace, every)
    assert_consistent(new)
    assert max(profile(new)) < 0.75 * max(profile(trace))
    seconds = sum(segment.seconds for segment in candidates(trace))
    assert sum(op.seconds + op.gap_seconds for op in new.ops) == pytest.approx(
        sum(op.seconds + op.gap_seconds for op in trace.ops) + seconds
    )


@pytest.mark.parametrize("seed", range(40))
def test_any_set_of_segments_of_any_network_gives_a_trace_that_agrees_with_itself(seed):
    print("seed", seed)
    trace = synthetic.random_trace(seed, ops=60)
    pick = random.Random(seed)
    chosen = {name for name in "abc" if pick.random() < 0.7}
    assert_consistent(trace)
    new = with_recompute(trace, chosen)
    assert_consistent(new)
    assert new.blocks[: len(trace.blocks)] == tuple(
        replace(old, born=block.born, freed=block.freed)
        for old, block in zip(trace.blocks, new.blocks, strict=False)
    )
    for old, index in zip(trace.ops, positions(trace, chosen), strict=True):
        assert new.ops[index].name == old.name
        sizes = [
            [t.blocks[b].bytes for b in op.touches]
            for t, op in ((trace, old), (new, new.ops[index]))
        ]
        assert sizes[0] == sizes[1]
    # Two choices one after the other are as good as both at once.
    one_by_one = trace
    for name in sorted(chosen, reverse=True):
        one_by_one = with_recompute(one_by_one, {name})
    assert names(one_by_one) == names(new)
    assert profile(one_by_one) == profile(new)
