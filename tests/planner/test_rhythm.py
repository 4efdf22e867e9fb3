"""Kinds of iterations, and when they take turns."""

from dataclasses import replace

import pytest

from swapmem.planner.rhythm import MOST_ITERATIONS, Rhythm, kind_of
from swapmem.planner.trace import Block, Change
from tests.planner import synthetic


def period(kinds: str) -> int:
    rhythm = Rhythm()
    for kind in kinds:
        rhythm.note(kind)
    return rhythm.period()


@pytest.mark.parametrize(
    ("kinds", "length"),
    [("", 1), ("d", 1), ("dg", 1), ("dgd", 1), ("dgdg", 2), ("xdgdg", 2), ("ddgddg", 3)],
)
def test_a_round_is_known_when_it_has_come_twice(kinds: str, length: int) -> None:
    assert period(kinds) == length


def test_what_stays_alike_is_no_round() -> None:
    assert period("dgdggg") == 1


def test_a_round_has_a_bounded_number_of_iterations() -> None:
    longest = "abcdefghijk"[:MOST_ITERATIONS]
    assert period(2 * longest) == MOST_ITERATIONS
    assert period(2 * (longest + "z")) == 1


def test_a_batch_of_another_size_is_another_kind() -> None:
    assert kind_of(synthetic.chain(4)) == kind_of(synthetic.chain(4))
    trace = synthetic.chain(4)
    made = next(i for i, block in enumerate(trace.blocks) if block.born is not None)
    blocks = list(trace.blocks)
    blocks[made] = replace(blocks[made], bytes=blocks[made].bytes + 1)
    assert kind_of(replace(trace, blocks=tuple(blocks))) != kind_of(trace)


def test_what_comes_and_goes_between_two_ops_makes_no_other_kind() -> None:
    trace = synthetic.chain(4)
    number = len(trace.blocks)
    passing = replace(
        trace,
        blocks=(*trace.blocks, Block(64, born=0, freed=0)),
        changes=(Change(0, number, True), Change(0, number, False), *trace.changes),
    )
    assert kind_of(passing) == kind_of(trace)
