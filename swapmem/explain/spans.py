"""Stretches of time: how long they are together, how much of them overlaps, how to draw them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

Span = tuple[float, float]
# What ends and begins at one moment is told apart by the rounding of sums of times.
_ROUNDING_SECONDS = 1e-7


def union(spans: Iterable[Span]) -> list[Span]:
    """Joins spans that overlap or touch.

    Args:
        spans: (begin, end) in seconds, in any order.

    Returns:
        The same stretches of time, in order, none of which touches another.

    Example:
        >>> union([(2, 3), (0, 1), (0.5, 2)])
        [(0, 3)]
    """
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if end <= begin:
            continue
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def length(spans: Iterable[Span]) -> float:
    """Seconds in which at least one of the spans is open."""
    return sum(end - begin for begin, end in union(spans))


def overlap(some: Iterable[Span], others: Iterable[Span]) -> float:
    """Seconds in which at least one of `some` and at least one of `others` is open.

    Example:
        >>> overlap([(0, 2), (1, 3)], [(2.5, 10)])
        0.5
    """
    left, right = union(some), union(others)
    seconds = 0.0
    i = j = 0
    while i < len(left) and j < len(right):
        begin, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        seconds += max(end - begin, 0.0)
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return seconds


def clip(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """What of the spans lies between two moments."""
    cut = ((max(first, begin), min(last, end)) for first, last in spans)
    return [span for span in cut if span[1] > span[0]]


def rows(spans: Sequence[Span]) -> list[int]:
    """Spreads spans over as few rows as possible so that none overlaps another in its row.

    Args:
        spans: in any order.

    Returns:
        For each of them, in the order given, its row, from 0.

    Example:
        >>> rows([(0, 2), (1, 3), (2, 4)])
        [0, 1, 0]
    """
    row_of = [0] * len(spans)
    free: list[int] = []  # rows in which nothing is open any more, the first row first
    busy: list[tuple[float, int]] = []
    count = 0
    for i in sorted(range(len(spans)), key=lambda i: spans[i]):
        begin, end = spans[i]
        while busy and busy[0][0] <= begin + _ROUNDING_SECONDS:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            row = heapq.heappop(free)
        else:
            row, count = count, count + 1
        row_of[i] = row
        heapq.heappush(busy, (end, row))
    return row_of
