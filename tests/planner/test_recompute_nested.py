"""Segments within segments: candidates of every level, what they mean, and which are chosen."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from swapmem.planner import memory
from swapmem.planner.bounds import lower_bound
from swapmem.planner.errors import TraceError
from swapmem.planner.levels import Levels
from swapmem.planner.paths import outermost, prefixes
from swapmem.planner.plan import Plan
from swapmem.planner.plan_check import check_plan
from swapmem.planner.prepared import prepare
from swapmem.planner.recompute import candidates, with_recompute
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.rough import rough_count
from swapmem.planner.search import make_plan
from swapmem.planner.trace import Op, Trace
from tests.planner import synthetic
from tests.planner.synthetic import MIB, Layer

SIZE = 64 * MIB


def block(number: int, entry: int, seconds: float) -> list[Layer]:
    """Two normalized convolutions, each a segment within that of the block, and a sum."""
    name = f"block{number}"
    layers: list[Layer] = []
    last = entry
    for part in "ab":
        inner = f"{name}/{part}"
        layers += [
            Layer("conv", (last,), SIZE, seconds, parameter_bytes=MIB, segment=inner),
            Layer("norm", (entry + len(layers) + 1,), SIZE, seconds / 8, segment=inner),
            Layer("relu", (entry + len(layers) + 2,), SIZE, seconds / 8, False, True, segment=name),
        ]
        last = entry + len(layers)
    return [*layers, Layer("add", (last, entry), SIZE, seconds / 8, False, segment=name)]


def blocks(count: int = 3, seconds: float = 0.1, **options) -> Trace:
    layers = [Layer("stem", (-1,), SIZE, seconds)]
    for number in range(count):
        layers += block(number, len(layers) - 1, seconds)
    layers.append(Layer("last", (len(layers) - 1,), MIB, seconds))
    return synthetic.network(layers, batch_bytes=SIZE, frees_late=True, **options)


def flat(trace: Trace) -> Trace:
    """The same with the outermost segments only."""
    ops = [replace(op, segment=next(iter(prefixes(op.segment)), None)) for op in trace.ops]
    return replace(trace, ops=tuple(ops))


def again(trace: Trace) -> list[str]:
    return [segment.name for segment in repeated_segments(trace)]


def test_segments_of_every_level_are_candidates():
    found = {segment.name: segment for segment in candidates(blocks(2))}
    assert list(found) == ["block0", "block0/a", "block0/b", "block1", "block1/a", "block1/b"]
    # The block's own ReLU is between its parts: their results stay, the convolutions' go.
    assert found["block0/a"].bytes == found["block0/b"].bytes == SIZE
    assert found["block0"].bytes == 4 * SIZE
    assert [(s.first, s.last) for s in found.values()][:3] == [(1, 7), (1, 2), (4, 5)]


@pytest.mark.parametrize(
    "names", [["block1"], ["block1/b"], ["block0/a", "block0/b"], ["block0", "block1/a"]], ids=str
)
def test_what_ran_again_is_read_off_the_trace(names):
    seen = with_recompute(blocks(3), names)
    assert sorted(again(seen)) == names
    for segment in repeated_segments(seen):
        first, second = zip(*segment.pairs, strict=True)
        assert [seen.ops[i].name for i in first] == [seen.ops[k].name for k in second]
        assert [seen.ops[i].segment for i in first] == [seen.ops[k].segment for k in second]
        assert max(first) < min(second)


def test_of_a_segment_and_one_within_the_one_around_is_recomputed():
    trace = blocks(2)
    both = with_recompute(trace, {"block0/b", "block0", "block1/a"})
    assert both == with_recompute(trace, {"block0", "block1/a"})
    assert again(both) == ["block1/a", "block0"]


def test_what_runs_again_already_is_no_candidate_nor_what_is_around_or_within():
    names = {"block0", "block0/a", "block0/b", "block1", "block1/a", "block1/b"}
    for done, left in (
        ({"block0"}, {"block1", "block1/a", "block1/b"}),
        ({"block0/a"}, {"block0/b", "block1", "block1/a", "block1/b"}),
    ):
        seen = with_recompute(blocks(2), done)
        assert {segment.name for segment in candidates(seen)} == left < names


def test_each_call_of_a_segment_is_paired_with_its_own_second_run():
    called = ["unit/a", "unit/a", None, "unit/a", "unit/a", None]
    forward = [
        Op(name, "forward", 1.0, 0.0, (), segment=path)
        for name, path in zip("fg-fg-", called, strict=True)
    ]
    last = Op("backward", "backward", 1.0, 0.0, ())
    # The gradients that meet are added up by forward ops in backward.
    between = Op("add", "forward", 1.0, 0.0, ())
    ops = (*forward, last, *forward[3:5], last, between, *forward[:2], last)
    trace = replace(blocks(1), ops=ops, blocks=(), changes=())
    found = repeated_segments(trace)
    assert [(s.name, s.pairs) for s in found] == [
        ("unit/a", ((3, 7), (4, 8))),
        ("unit/a", ((0, 11), (1, 12))),
    ]


def test_what_is_within_what_runs_again_is_no_candidate_even_where_it_kept_something():
    small = [
        Layer("conv", (0,), 2 * MIB, 0.1, segment="unit/small"),
        Layer("norm", (1,), 2 * MIB, 0.1, segment="unit/small"),
        Layer("conv", (2,), SIZE, 0.1, segment="unit"),
        Layer("norm", (3,), SIZE, 0.1, segment="unit"),
    ]
    ends = Layer("stem", (-1,), SIZE, 0.1), Layer("last", (4,), MIB, 0.1)
    trace = synthetic.network([ends[0], *small, ends[1]])
    assert [segment.name for segment in candidates(trace)] == ["unit", "unit/small"]
    assert candidates(with_recompute(trace, {"unit"})) == ()


def test_a_plan_may_name_segments_of_every_level_and_no_others():
    trace = blocks(1)
    ops = [replace(op, segment=op.segment and f"{op.segment}/x") for op in trace.ops]
    trace = replace(trace, ops=tuple(ops))
    plan = Plan((), ("block0",), ("kept: here",) * len(trace.blocks), 1.0, 1.0, 1.0, 1, 0, 0)
    for name in ("block0", "block0/a", "block0/a/x"):
        check_plan(replace(plan, recomputed=(name,)), trace)
    for name in ("block0/c", "a", "block"):
        with pytest.raises(TraceError, match=f"no segment '{name}'"):
            check_plan(replace(plan, recomputed=(name,)), trace)


@pytest.mark.parametrize("seed", range(10))
def test_no_set_that_is_tried_has_a_segment_and_one_within(seed):
    print("seed", seed)
    pick = random.Random(seed)
    trace = blocks(3)
    ops = [
        op if op.segment is None or pick.random() < 0.5 else replace(op, segment=f"{op.segment}/x")
        for op in trace.ops
    ]
    levels = Levels(candidates(replace(trace, ops=tuple(ops))))
    assert levels.divisible
    for divided in range(len(levels.divisible) + 1):
        for count in range(len(levels.names) + 1):
            chosen = levels.first(count, divided)
            assert chosen == outermost(chosen)
            assert chosen.isdisjoint(levels.divisible[:divided])
            for other in (o for name in levels.names for o in levels.changed(chosen, name)):
                assert other == outermost(other) != chosen


def test_a_segment_can_be_divided_and_put_together_again():
    levels = Levels(candidates(blocks(2)))
    whole, parts = frozenset({"block0"}), frozenset({"block0/a", "block0/b"})
    assert levels.changed(whole, "block0") == [frozenset(), parts]
    assert levels.changed(parts, "block0") == [whole]
    assert levels.changed(whole, "block0/a") == []


def residual() -> Trace:
    """Residual units, each convolution with its normalization within; a slow link, little room."""
    trace = synthetic.resnet_like(units=2)
    ops = []
    for op in trace.ops:
        what, _, which = op.name.partition(" ")
        is_part = op.segment is not None and what in ("conv", "bn")
        ops.append(replace(op, segment=f"{op.segment}/{which[0]}") if is_part else op)
    peak = memory.peak(trace)
    link = synthetic.rates(peak / 2 / sum(op.seconds for op in ops))
    machine = replace(trace.machine, budget_bytes=peak // 4, link=link)
    return replace(trace, ops=tuple(ops), machine=machine)


def test_of_large_segments_the_parts_are_recomputed_and_small_ones_as_a_whole():
    trace = residual()
    plan = make_plan(trace)
    first = {name for name in plan.recomputed if name.startswith("stage1")}
    assert first == {f"stage1.{unit}/{part}" for unit in (1, 2) for part in "ab"}
    assert any("/" not in name for name in plan.recomputed)
    assert set(plan.recomputed) == outermost(plan.recomputed)
    assert plan.seconds < make_plan(flat(trace)).seconds


def test_the_same_trace_with_segments_within_others_gives_the_same_plan():
    plan = make_plan(residual(), steps=24)
    assert any("/" in name for name in plan.recomputed)
    assert make_plan(residual(), steps=24) == plan


@pytest.mark.parametrize("speed", [0.25, 0.5, 1, 2])
def test_about_as_many_are_worth_it_as_the_bound_says(speed):
    trace = blocks(8, link=synthetic.rates(speed * 1e9))
    machine = replace(trace.machine, budget_bytes=memory.peak(trace) // 3)
    levels = Levels(candidates(trace))

    def bound_seconds(count: int) -> float:
        names = levels.first(count)
        return lower_bound(with_recompute(trace, names), machine).seconds

    guess = rough_count(prepare(trace), machine, levels)
    bounds = [bound_seconds(count) for count in range(1, len(levels.names) + 1)]
    assert 1 <= guess <= len(levels.names)
    assert max(bounds) > 1.1 * min(bounds)
    assert bounds[guess - 1] - min(bounds) < (max(bounds) - min(bounds)) / 4


def test_always_divides_segments_only_where_that_makes_everything_fit():
    for count, expected in (
        (3, {"block0", "block1", "block2"}),
        # Recomputed as a whole, it has as much to hold at one time as without.
        (1, {"block0/a", "block0/b"}),
    ):
        trace = blocks(count)
        budget = memory.peak(with_recompute(trace, expected))
        machine = replace(trace.machine, budget_bytes=budget)
        plan = make_plan(trace, machine, recompute="always")
        assert set(plan.recomputed) == expected
        assert plan.swaps == ()
