"""From the engine's record to a trace."""

from __future__ import annotations

import pytest

from swapmem.planner.record import Birth, as_next, phase_of, read
from swapmem.planner.trace import Change, Machine, Rates

MACHINE = Machine(1 << 30, Rates(1e9, 1e9, 1e9, 1e9))
KIB = 1024


class Script:
    """Writes a record; each item takes a second."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.items = []
        self.op = ""

    def add(self, kind, block=0, size=64 * KIB, name=None, seconds=None, may_leave=True):
        self.seconds += 1.0
        at = self.seconds if seconds is None else seconds
        address = block << 20
        self.items.append((kind, at, block, address, size, name or self.op, may_leave))
        return self

    def begin(self, name):
        self.op = name
        return self.add("begin_op")

    def end(self):
        self.add("end_op")
        self.op = ""
        return self

    def record(self):
        return 0.0, self.seconds + 1.0, self.items


def forward_backward_update() -> Script:
    """Block 1 is a weight; 2 an activation; 3 its gradient, left over; 4 the optimizer's state."""
    script = Script().add("exists", 1)
    script.begin("F").add("touch", 1).add("allocate", 2).end()
    script.begin("F backward").add("touch", 1).add("touch", 2).add("allocate", 3).end()
    script.add("free", 2)
    script.begin("SGD update").add("touch", 1).add("touch", 3).add("allocate", 4).add("touch", 4)
    return script.end()


def test_ops_have_their_time_without_stalls_and_the_gap_before_them():
    script = Script().begin("F")  # at 1 s
    script.add("stall", seconds=0.5)
    script.end()  # at 3 s
    script.begin("G").end()  # at 4 s and 5 s
    trace = read(script.record(), MACHINE).trace
    assert [op.seconds for op in trace.ops] == [1.5, 1.0]
    assert [op.gap_seconds for op in trace.ops] == [1.0, 1.0]
    assert trace.tail_seconds == 1.0


def test_what_an_iteration_waited_is_summed_up_in_ops_and_between_them():
    script = Script().begin("F").add("stall", seconds=0.5).end()
    script.add("stall", seconds=0.25)
    assert read(script.begin("G").end().record(), MACHINE).stall_seconds == 0.75


def test_blocks_are_born_and_freed_in_their_slots():
    trace = read(forward_backward_update().record(), MACHINE).trace
    assert [(block.born, block.freed) for block in trace.blocks] == [
        (None, None),
        (1, 4),
        (3, None),
        (5, None),
    ]
    assert trace.changes == (
        Change(1, 1, True),
        Change(3, 2, True),
        Change(4, 1, False),
        Change(5, 3, True),
    )


def test_an_update_writes_to_what_it_touches_and_other_ops_to_what_they_make():
    trace = read(forward_backward_update().record(), MACHINE).trace
    assert [op.phase for op in trace.ops] == ["forward", "backward", "update"]
    assert [op.writes for op in trace.ops] == [(), (), (0, 2, 3)]


def test_where_writes_go_unseen_every_touch_is_one():
    trace = read(forward_backward_update().record(), MACHINE, sees_writes=False).trace
    assert [op.writes for op in trace.ops] == [op.touches for op in trace.ops]


def test_a_block_that_never_may_leave_is_not_eligible_and_says_why():
    script = Script().add("exists", 1, may_leave=False).add("exists", 2, may_leave=False)
    script.begin("F").add("touch", 1, may_leave=False).add("touch", 2).end()
    blocks = read(script.record(), MACHINE).trace.blocks
    assert [block.eligible for block in blocks] == [False, True]
    assert "announced" in blocks[0].reason


def test_what_is_touched_between_two_ops_is_touched_by_both():
    script = Script().add("exists", 1).begin("F").end().add("fault", 1).begin("G").end()
    trace = read(script.record(), MACHINE).trace
    assert [op.touches for op in trace.ops] == [(0,), (0,)]


def test_what_the_iteration_before_has_made_is_told_by_when_it_was_made():
    first = read(forward_backward_update().record(), MACHINE)
    assert first.survivors() == {3: Birth(3, 0), 4: Birth(5, 0)}
    script = Script().add("exists", 1).add("exists", 3).add("exists", 4)
    script.begin("F").add("touch", 1).add("allocate", 5).end()
    script.add("free", 3)
    script.begin("F backward").add("touch", 1).add("touch", 5).add("allocate", 6).end()
    script.add("free", 5)
    script.begin("SGD update").add("touch", 1).add("touch", 6).add("touch", 4).end()
    trace = read(script.record(), MACHINE, earlier=first.survivors()).trace
    assert [block.carried_from for block in trace.blocks] == [None, 4, None, None, None]


def test_segments_are_those_of_the_ops_or_none_at_all():
    record = forward_backward_update().record()
    segments = ["stem", None, None]
    assert [op.segment for op in read(record, MACHINE, segments=segments).trace.ops] == segments
    assert {op.segment for op in read(record, MACHINE, segments=["stem"]).trace.ops} == {None}


def test_the_next_iteration_finds_gradients_and_state_in_place():
    recorded = as_next(read(forward_backward_update().record(), MACHINE))
    blocks = recorded.trace.blocks
    # The optimizer's state is there for good; last iteration's gradient until backward begins.
    assert (blocks[3].born, blocks[3].freed) == (None, None)
    assert (blocks[4].born, blocks[4].freed, blocks[4].carried_from) == (None, 2, 2)
    assert recorded.identities[4] == recorded.identities[2]
    assert recorded.trace.changes == (
        Change(1, 1, True),
        Change(2, 4, False),
        Change(3, 2, True),
        Change(4, 1, False),
    )


def test_state_that_is_made_right_before_its_update_is_there_in_the_next_iteration():
    script = Script().add("exists", 1)
    script.begin("F").add("touch", 1).end()
    script.begin("F backward").add("touch", 1).add("allocate", 2).end()
    script.add("allocate", 3)
    script.begin("SGD update").add("touch", 1).add("touch", 2).add("touch", 3)
    recorded = as_next(read(script.end().record(), MACHINE))
    assert (recorded.trace.blocks[2].born, recorded.births[2]) == (None, None)
    assert all(change.block != 2 for change in recorded.trace.changes)


@pytest.mark.parametrize(
    "script",
    [Script(), Script().add("exists", 1), Script().begin("F"), Script().add("end_op")],
    ids=["empty", "no op", "an op that did not end", "an op that did not begin"],
)
def test_what_is_no_iteration_is_refused(script):
    with pytest.raises(ValueError, match="op|iteration"):
        read(script.record(), MACHINE)


def test_phases_are_told_by_names():
    assert [phase_of(name) for name in ("ReLU", "ReLU backward", "AdamRule update")] == [
        "forward",
        "backward",
        "update",
    ]
