"""Which segments an iteration recomputed, read off its trace."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby

from swapmem.planner.paths import common, prefixes, runs
from swapmem.planner.trace import Op, Trace


@dataclass(frozen=True)
class Repeated:
    """One call of a segment whose forward ran again in backward.

    Attributes:
        name: of the segment, a path.
        pairs: for each op that ran again: index of its first run, index of its second.
        seconds: of the second runs.
    """

    name: str
    pairs: tuple[tuple[int, int], ...]
    seconds: float


def repeated_segments(trace: Trace) -> list[Repeated]:
    """Finds the segments whose forward the iteration ran twice for one backward.

    What runs again leads to the backward op that needs it. The second of several passes that go
    into one update goes on forward instead: it is none of them. A segment of which only a part ran
    again, all of it in one segment within, is taken for that one.

    Args:
        trace: with the names of segments, if the model has any.

    Returns:
        In the order in which they ran again.
    """
    ops = trace.ops
    calls: dict[str, list[range]] = defaultdict(list)
    for name, first, last in runs([op.segment for op in ops[: turn_of(ops)]]):
        calls[name].append(range(first, last + 1))
    found = []
    for name, again in later_runs(ops):
        if again.stop == len(ops) or ops[again.stop].phase != "backward":
            continue
        # Backward goes from the last call to the first.
        call = next((c for c in reversed(calls[name]) if _is_like(ops, c, again)), None)
        if call is not None:
            calls[name].remove(call)
            # It runs again as far as backward needs it: some ops at its end do not.
            pairs = tuple(zip(call, again, strict=False))
            found.append(Repeated(name, pairs, sum(ops[k].seconds for k in again)))
    return found


def turn_of(ops: tuple[Op, ...]) -> int:
    """The index of the first backward op; how many ops there are if there is none."""
    return next((i for i, op in enumerate(ops) if op.phase == "backward"), len(ops))


def later_runs(ops: tuple[Op, ...]) -> list[tuple[str, range]]:
    """The forward ops of segments that run after backward has begun.

    Returns:
        For each run of consecutive ones in one outermost segment the innermost segment that all of
        them are in, and their indices.
    """
    found = []
    begin = turn_of(ops)
    for outermost, some in groupby(ops[begin:], _outermost):
        end = begin + sum(1 for _ in some)
        if outermost is not None:
            name = common({op.segment for op in ops[begin:end] if op.segment is not None})
            assert name is not None
            found.append((name, range(begin, end)))
        begin = end
    return found


def _outermost(op: Op) -> str | None:
    is_named = op.phase == "forward" and op.segment is not None
    return prefixes(op.segment)[0] if is_named else None


def _is_like(ops: tuple[Op, ...], call: range, again: range) -> bool:
    return all(ops[i].name == ops[k].name for i, k in zip(call, again, strict=False))
