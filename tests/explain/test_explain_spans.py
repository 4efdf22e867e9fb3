"""Stretches of time: against counting in small steps."""

from __future__ import annotations

import random

from swapmem.explain import spans


def some_spans(source: random.Random, most: int = 100) -> list[spans.Span]:
    found = []
    for _ in range(source.randrange(12)):
        begin = source.randrange(most)
        found.append((begin, begin + source.randrange(20)))
    return found


def covered(some: list[spans.Span]) -> set[int]:
    return {step for begin, end in some for step in range(int(begin), int(end))}


def test_lengths_and_overlaps_are_those_of_counting() -> None:
    for seed in range(300):
        source = random.Random(seed)
        left, right = some_spans(source), some_spans(source)
        assert spans.length(left) == len(covered(left)), seed
        assert spans.overlap(left, right) == len(covered(left) & covered(right)), seed


def test_a_union_covers_the_same_time_and_its_parts_do_not_touch() -> None:
    for seed in range(300):
        some = some_spans(random.Random(seed))
        joined = spans.union(some)
        assert covered(joined) == covered(some), seed
        ends = [end for _, end in joined[:-1]]
        assert all(end < begin for end, (begin, _) in zip(ends, joined[1:], strict=True)), seed


def test_no_two_spans_of_a_row_overlap_and_no_fewer_rows_would_do() -> None:
    for seed in range(300):
        some = some_spans(random.Random(seed))
        row_of = spans.rows(some)
        for i, first in enumerate(some):
            for j, second in enumerate(some[:i]):
                if row_of[i] == row_of[j]:
                    assert first[1] <= second[0] or second[1] <= first[0], seed
        open_at = [sum(begin <= step < end for begin, end in some) for step in range(120)]
        instants = any(begin == end for begin, end in some)
        assert instants or max(row_of, default=-1) + 1 == max(open_at), seed


def test_what_is_clipped_lies_between_the_two_moments() -> None:
    assert spans.clip([(-1, 1), (2, 3), (4, 9), (9, 12)], 0, 5) == [(0, 1), (2, 3), (4, 5)]
