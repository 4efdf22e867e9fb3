"""The explanation as text: its figures are the timeline's, and each block has its reason."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from swapmem.explain import text
from swapmem.explain.decisions import decision, reasons
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.explain.simulated import simulated
from swapmem.planner.recompute import candidates, with_recompute
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.trace import Block, Machine, Op, Trace
from tests.explain import made_up_runs
from tests.planner import synthetic


@pytest.fixture(scope="module")
def lines(run: Run) -> list[str]:
    return text.explanation(run, measured(run)).splitlines()


def test_it_says_which_run_it_is_and_what_the_run_noticed(lines: list[str]) -> None:
    assert lines[0] == "model made up, batch 16; host, one iteration, measured"
    assert lines[-1] == "notice: the spill directory lies in memory"


def test_the_ten_longest_stalls_come_longest_first_with_cause(run: Run, lines: list[str]) -> None:
    stalls = measured(run).longest_stalls()
    first = next(i for i, line in enumerate(lines) if line.startswith("the 10 longest of"))
    for number, stall in enumerate(stalls, start=1):
        line = lines[first + number]
        assert line.split()[0] == str(number)
        assert stall.why in line
        assert stall.op_name in line
    times = [stall.seconds for stall in stalls]
    assert times == sorted(times, reverse=True)
    assert len(stalls) == 10


def test_the_summary_is_the_explanation_without_the_blocks(run: Run, lines: list[str]) -> None:
    short = text.summary(run, measured(run)).splitlines()
    assert lines[: len(short)] == short
    assert lines[len(short)] == "blocks:"


def test_every_kind_of_decision_is_counted(run: Run, lines: list[str]) -> None:
    assert run.plan is not None
    assert run.trace is not None
    counted = {}
    for line in lines:
        found = re.match(r"  (swapped|kept|not eligible): (\d+),", line)
        if found:
            counted[found[1]] = int(found[2])
    decisions = [decision(reason) for reason in run.plan.reasons]
    assert counted == {kind: decisions.count(kind) for kind in set(decisions)}
    assert set(counted) == {"swapped", "kept", "not eligible"}


def test_each_block_can_be_asked_why(run: Run) -> None:
    assert run.trace is not None
    everything = text.why_blocks(run, "")
    assert len(everything) == len(run.trace.blocks)
    (line,) = text.why_blocks(run, r"^stem\.W")
    assert line == "stem.W (block 0), 1.0 MiB: not eligible: a variable refers to it"
    assert text.why_blocks(run, "NOT ELIGIBLE") == [line]
    assert text.why_blocks(run, "no such block") == []
    with pytest.raises(re.error):
        text.why_blocks(run, "(")


def test_without_stalls_it_says_so() -> None:
    fast = made_up_runs.resnet_run(fraction=1.0, bytes_per_second=1e12)
    assert "no stalls" in text.explanation(fast, measured(fast)).splitlines()


def test_the_difference_to_the_plan_is_told(run: Run) -> None:
    slower = [event._replace(time_seconds=event.time_seconds * 2) for event in run.events]
    slow = replace(run, events=tuple(slower))
    assert "(measured +100.0%)" in text.explanation(slow, measured(slow))


def test_a_run_without_a_plan_says_why_there_is_none(run: Run) -> None:
    for trace, words in ((run.trace, "there is no plan"), (None, "no two iterations were alike")):
        unplanned = Run(run.events, run.stats, trace)
        said = text.explanation(unplanned, measured(unplanned))
        assert words in said
        assert "blocks:" not in said
        assert text.why_blocks(unplanned, "") == []


def test_a_simulation_is_told_like_a_run(run: Run) -> None:
    assert run.trace is not None
    assert run.simulation is not None
    said = text.explanation(run, simulated(run.trace, run.simulation))
    assert "one iteration, simulated" in said
    assert "faults" not in said


def test_what_backward_makes_anew_is_recomputed() -> None:
    trace = synthetic.with_budget(synthetic.resnet_like(), 0.8)
    names = ["stage1.1", "stage2.3"]
    again = with_recompute(trace, names)
    run = made_up_runs.planned_run(again)
    assert [segment.name for segment in repeated_segments(again)] == names[::-1]
    # The planner's own account of what it does not store.
    dropped = {i for s in candidates(trace) if s.name in names for i in s.blocks}
    kept = {i for i, reason in enumerate(reasons(run)) if decision(reason) == "recomputed"}
    assert kept
    assert {again.blocks[i].name for i in kept} == {trace.blocks[i].name for i in dropped}
    assert len(kept) == len(dropped)
    said = text.explanation(run, measured(run))
    assert "to recompute stage2.3, stage1.1" in said
    assert f"  recomputed: {len(kept)}, together" in said
    assert repeated_segments(trace) == []


def test_a_run_that_was_faster_than_its_trace_is_not_said_to_beat_the_bound(run: Run) -> None:
    faster = [event._replace(time_seconds=event.time_seconds / 2) for event in run.events]
    fast = replace(run, events=tuple(faster))
    assert "ops were faster than in the trace" in text.explanation(fast, measured(fast))


def test_an_op_that_made_other_blocks_the_second_time_says_nothing_of_the_first(run: Run) -> None:
    assert run.plan is not None
    ops = (
        Op("Conv", "forward", 1.0, 0.0, (), segment="unit"),
        Op("Loss backward", "backward", 1.0, 0.0, ()),
        Op("Conv", "forward", 1.0, 0.0, (), segment="unit"),
        Op("Conv backward", "backward", 1.0, 0.0, (2,)),
    )
    blocks = (Block(8, 1, 2, name="a"), Block(8, 5, 5, name="b"), Block(8, 5, 8, name="c"))
    trace = Trace("host", ops, blocks, (), Machine(100, synthetic.rates()))
    plan = replace(run.plan, swaps=(), reasons=("kept: here",) * 3)
    assert reasons(Run((), {}, trace, plan)) == ["kept: here"] * 3
    assert [segment.seconds for segment in repeated_segments(trace)] == [1.0]
