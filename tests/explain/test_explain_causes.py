"""Causes of stalls: one made-up moment for each kind of sentence."""

from __future__ import annotations

import pytest

from swapmem.explain.causes import Causes, Finding, milliseconds
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.explain.timeline import Copy, Tier
from swapmem.planner.plan import Plan, Swap
from swapmem.records import TraceEvent

MIB = 1 << 20
SECONDS = 10.0
OPS = 10
# Every op touches the blocks 1 and 2.
TOUCHES = [(1, 2)] * OPS
FULL = Tier("device", ((0.0, 1000 * MIB),), 1000 * MIB)


def plan(*swaps: Swap) -> Plan:
    return Plan(swaps, (), (), SECONDS, SECONDS, SECONDS, 0, 0, 0)


def copy_in(begin: float, end: float, block: int = 1, planned: bool = True) -> Copy:
    return Copy(block, f"block {block}", 64 * MIB, begin, end, planned)


def of_data(
    ins: list[Copy],
    the_plan: Plan | None,
    begin: float = 6.0,
    end: float = 7.0,
    op: int = 6,
    device: Tier = FULL,
    skipped: int | None = None,
) -> Finding:
    # Op k begins at k seconds.
    begins = {k: float(k) for k in range(OPS) if k != skipped}
    found = Causes(the_plan, TOUCHES, begins, SECONDS, [], ins, device).of_data(begin, end, op)
    assert found is not None
    return found


def test_a_copy_that_was_asked_for_too_late_is_told_with_its_rate() -> None:
    found = of_data([copy_in(5.0, 7.0)], plan(Swap(1, 0, 5, 6)))
    assert (found.cause, found.block) == ("copy in late", 1)
    assert "asked for 1.00 s ahead, its copy in took 2.00 s at 32.0 MiB/s" in found.why


def test_a_copy_behind_others_is_told_with_what_the_lane_did() -> None:
    ins = [copy_in(3.0, 6.5, block=5), copy_in(6.5, 7.0)]
    found = of_data(ins, plan(Swap(1, 0, 4, 6)))
    assert found.cause == "copy in late"
    assert "asked for 2.00 s ahead, but its copy in began 2.50 s later" in found.why
    assert "busy with 1 other copy in for 2.50 s" in found.why


def test_a_copy_that_the_idle_lane_did_not_begin_had_no_room() -> None:
    found = of_data([copy_in(6.5, 7.0)], plan(Swap(1, 0, 4, 6)))
    assert found.cause == "copy in late"
    assert "the budget had no room" in found.why


def test_room_is_only_said_to_be_missing_where_arrays_took_it() -> None:
    for held, words in (
        (940, "the budget had no room"),
        (930, "although the lane was idle and the arrays left room"),
    ):
        device = Tier("device", ((0.0, 0), (4.5, held * MIB), (6.8, 0)), 1000 * MIB)
        found = of_data([copy_in(6.5, 7.0)], plan(Swap(1, 0, 4, 6)), device=device)
        assert words in found.why


def test_a_copy_that_the_plan_does_not_have_is_no_plan() -> None:
    found = of_data([copy_in(6.0, 7.0, planned=False)], plan(Swap(3, 0, 4, 6)))
    assert found.cause == "no plan"
    assert "the plan does not fetch it for this op" in found.why
    for_another_op = of_data([copy_in(6.0, 7.0)], plan(Swap(1, 0, 4, 5)))
    assert for_another_op.cause == "no plan"
    from_an_op_that_did_not_run = of_data([copy_in(6.0, 7.0)], plan(Swap(1, 0, 5, 6)), skipped=5)
    assert from_an_op_that_did_not_run.cause == "no plan"


def test_without_a_plan_nothing_is_said_of_one() -> None:
    found = of_data([copy_in(6.0, 7.0, planned=False)], None)
    assert found.cause == "no plan"
    assert "nothing fetched it ahead" in found.why


def test_what_was_asked_for_in_the_iteration_before_was_asked_for_before_this_one() -> None:
    # Op 8 of an iteration asks for what op 1 of the next needs.
    found = of_data([copy_in(-2.0, 2.0)], plan(Swap(1, 5, 8, 11)), begin=1.0, end=2.0, op=1)
    assert "asked for 3.00 s ahead" in found.why


def test_of_several_copies_the_one_that_took_most_of_the_wait_is_named() -> None:
    ins = [copy_in(6.0, 6.9, block=2), copy_in(6.9, 7.0, block=1)]
    found = of_data(ins, plan(Swap(2, 0, 5, 6)))
    assert found.block == 2
    assert "block 2, 64.0 MiB, and 1 more" in found.why


def test_fetches_for_later_ops_are_no_cause() -> None:
    ins = [copy_in(6.0, 6.95, block=5), copy_in(6.95, 7.0)]
    assert of_data(ins, plan(Swap(1, 0, 5, 6))).block == 1


@pytest.mark.parametrize(
    ("outs", "cause", "words"),
    [
        ([copy_in(5.5, 7.0)], "copy out late", "took 1.50 s and had begun 500.0 ms before"),
        ([copy_in(6.0, 7.0, planned=False)], "no plan", "which the plan keeps, had to leave"),
        ([], "copy out late", "copies were still good"),
        ([copy_in(3.0, 5.0)], "copy out late", "copies were still good"),
    ],
)
def test_who_waits_for_memory_is_told_what_had_to_leave(
    outs: list[Copy], cause: str, words: str
) -> None:
    found = Causes(plan(), TOUCHES, {}, SECONDS, outs, [], FULL).of_memory(6.0, 7.0, 128 * MIB)
    assert found.cause == cause
    assert "memory for 128.0 MiB" in found.why
    assert words in found.why


def test_an_allocation_in_an_op_waits_for_memory_and_a_beginning_op_for_data() -> None:
    def event(time: float, kind: str, size: int = 0, seconds: float = 0.0) -> TraceEvent:
        return TraceEvent(time, kind, 7 if "swap" in kind else 0, size, "Conv", seconds, 0, 0)

    events = [
        event(0.0, "iteration"),
        event(1.0, "begin_op", 8),
        event(2.0, "swap_in", 8, 1.0),
        event(2.0, "stall", 8, 1.0),
        event(2.9, "swap_in", 3, 0.3),
        event(3.0, "swap_out", 6, 0.5),
        event(3.0, "stall", 6, 0.5),
        event(3.0, "allocate", 6),
        event(4.0, "fault", 5, 0.25),
        event(5.0, "end_op", 14, 4.0),
        event(6.0, "iteration"),
    ]
    data, memory, fault = measured(Run(tuple(events), {})).stalls
    assert data.why.startswith("waited for block 7")
    assert memory.why.startswith("waited for memory for 6 B")
    assert fault.cause == "not announced"
    assert [stall.seconds for stall in (data, memory, fault)] == [1.0, 0.5, 0.25]


def test_an_op_of_one_block_that_waits_for_room_for_it_waits_for_memory() -> None:
    events = [
        TraceEvent(1.0, "begin_op", 0, 8, "Conv", 0.0, 0, 0),
        TraceEvent(2.0, "swap_out", 3, 8, "", 0.9, 0, 0),
        TraceEvent(2.0, "stall", 0, 8, "Conv", 1.0, 0, 0),
    ]
    (stall,) = measured(Run(tuple(events), {})).stalls
    assert stall.why.startswith("waited for memory")


def test_times_are_written_in_a_unit_that_fits() -> None:
    assert [milliseconds(s) for s in (0.0123, 1.5)] == ["12.3 ms", "1.50 s"]
