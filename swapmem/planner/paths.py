"""Names of segments that nest: a path such as "stage2.0/up", the outermost name first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

#: Stands between the names of a path.
SEPARATOR = "/"


def prefixes(path: str | None) -> list[str]:
    """The segments that a path leads through, itself included; none for None.

    Example:
        >>> prefixes("stage2.0/up")
        ['stage2.0', 'stage2.0/up']
    """
    if path is None:
        return []
    names = path.split(SEPARATOR)
    return [SEPARATOR.join(names[: depth + 1]) for depth in range(len(names))]


def common(paths: Collection[str]) -> str | None:
    """The innermost segment that all of these are in; None if there is none."""
    each = [prefixes(path) for path in paths]
    same = list(takewhile(lambda level: len(set(level)) == 1, zip(*each, strict=False)))
    return same[-1][0] if same else None


def outermost(names: Collection[str]) -> frozenset[str]:
    """Those within none of the others: who recomputes a segment recomputes all that is in it."""
    all_ = frozenset(names)
    return frozenset(name for name in all_ if all_.isdisjoint(prefixes(name)[:-1]))


def runs(paths: Sequence[str | None]) -> list[tuple[str, int, int]]:
    """The calls of segments, of every level.

    Args:
        paths: the innermost segment of each op; None for ops in none.

    Returns:
        For each run of consecutive ops in a segment its path and the indices of its first and last
        op; in the order of the first ones, what is around before what is within.
    """
    found: list[tuple[str, int, int]] = []
    open_: list[tuple[str, int]] = []
    for index, path in enumerate((*paths, None)):
        now = prefixes(path)
        pairs = zip(open_, now, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1], pairs))
        found += [(name, first, index - 1) for name, first in open_[same:]]
        open_[same:] = [(name, index) for name in now[same:]]
    return sorted(found, key=lambda run: (run[1], -run[2], run[0]))
