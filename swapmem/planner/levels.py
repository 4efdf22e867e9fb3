"""The sets of segments that are worth a try, where segments nest.

A segment within another is often cheaper for a byte: one convolution is all that runs again. What
is around it saves more, but when it runs again all that it makes is there at one time.
"""

from __future__ import annotations

from collections import defaultdict

from swapmem.planner.paths import outermost, prefixes
from swapmem.planner.recompute import Segment


class Levels:
    """Sets of segments in which none is within another.

    Args:
        segments: candidates of a trace, of every level.

    Attributes:
        names: of all segments; those first that save most bytes for the time they take again.
        divisible: of those with others within, the largest first.
        by_size: all names, those first that save most bytes.
    """

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self._segments = segments
        seconds: dict[str, float] = defaultdict(float)
        sizes: dict[str, int] = defaultdict(int)
        for segment in segments:
            seconds[segment.name] += segment.seconds
            sizes[segment.name] += segment.bytes
        self.names = sorted(seconds, key=lambda name: (seconds[name] / sizes[name], name))
        self.by_size = sorted(seconds, key=lambda name: (-sizes[name], name))
        self._within: dict[str, set[str]] = defaultdict(set)
        for name in self.names:
            around = [prefix for prefix in prefixes(name)[:-1] if prefix in seconds]
            for prefix in around[-1:]:
                self._within[prefix].add(name)
        self.divisible = sorted(self._within, key=lambda name: (-sizes[name], name))

    def first(self, count: int, divided: int = 0) -> frozenset[str]:
        """The first `count` names, without the largest `divided` of the divisible ones."""
        return outermost(frozenset(self.names[:count]).difference(self.divisible[:divided]))

    def changed(self, chosen: frozenset[str], name: str) -> list[frozenset[str]]:
        """What becomes of a set with one segment more or less, or divided."""
        if not chosen.isdisjoint(prefixes(name)[:-1]):
            return []
        sets = [outermost(chosen ^ {name})]
        if name in chosen and name in self._within:
            sets.append(chosen - {name} | self._within[name])
        return sets

    def segments(self, chosen: frozenset[str]) -> tuple[Segment, ...]:
        """Those of a set, in the order of forward."""
        return tuple(segment for segment in self._segments if segment.name in chosen)
