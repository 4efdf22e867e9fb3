"""Which segments an iteration recomputed, read off its trace."""

from __future__ import annotations

from dataclasses import dataclass

from swapmem.planner.trace import Trace


@dataclass(frozen=True)
class Repeated:
    """A segment whose forward ran again in backward.

    Attributes:
        name: of the segment.
        pairs: for each op that ran again: index of its first run, index of its second.
        seconds: of the second runs.
    """

    name: str
    pairs: tuple[tuple[int, int], ...]
    seconds: float


def repeated_segments(trace: Trace) -> list[Repeated]:
    """Finds the segments whose forward the iteration ran twice for one backward.

    What runs again leads to the backward op that needs it. The second of several passes that go
    into one update goes on forward instead: it is none of them.

    Args:
        trace: with the names of segments, if the model has any.

    Returns:
        In the order in which they ran again.
    """
    ops = trace.ops
    turn = next((i for i, op in enumerate(ops) if op.phase == "backward"), len(ops))
    first: dict[str, list[int]] = {}
    second: dict[str, list[int]] = {}
    for i, op in enumerate(ops):
        if op.phase == "forward" and op.segment is not None:
            (first if i < turn else second).setdefault(op.segment, []).append(i)
    found = []
    for name, again in second.items():
        # It runs again as far as backward needs it: some ops at its end do not.
        pairs = tuple(zip(first.get(name, []), again, strict=False))
        leads_back = again[-1] + 1 < len(ops) and ops[again[-1] + 1].phase == "backward"
        if pairs and leads_back and all(ops[i].name == ops[k].name for i, k in pairs):
            found.append(Repeated(name, pairs, sum(ops[k].seconds for k in again)))
    return found
