"""Of what kind iterations are, and in which order the kinds take turns.

Where several models are trained in one loop, or a training step and an evaluation take turns, what
repeats is not one iteration but a *round* of them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Hashable

from swapmem.planner.trace import Trace

#: A round has so many iterations at most.
MOST_ITERATIONS = 8


def kind_of(trace: Trace) -> bytes:
    """What tells iterations of one kind from those of others: ops, and sizes of blocks.

    Args:
        trace: one iteration.

    Returns:
        Equal for two iterations if a plan for one is one for the other.

    Example:
        >>> kind_of(trace) == kind_of(recorded.trace)
        True
    """
    # What is there at the begin stands in the order of its addresses, which may be any. What comes
    # and goes between two ops, such as the next batch while it is read, is nothing to a plan.
    there = sorted(block.bytes for block in trace.blocks if block.born is None)
    made = (
        (block.bytes, block.born)
        for block in trace.blocks
        if block.born is not None and (block.born % 2 or block.freed != block.born)
    )
    # Many are remembered: a digest takes little memory.
    told = repr((ops_of(trace), there, list(made)))
    return hashlib.blake2b(told.encode(), digest_size=16).digest()


def ops_of(trace: Trace) -> tuple[str, ...]:
    """The names of its ops: batches of another size have the same."""
    return tuple(op.name for op in trace.ops)


class Rhythm:
    """Remembers the kinds of the iterations that ended last.

    Example:
        >>> rhythm = Rhythm()
        >>> for kind in "xdgdg":
        ...     rhythm.note(kind)
        >>> rhythm.period()
        2
    """

    def __init__(self) -> None:
        self._kinds: deque[Hashable] = deque(maxlen=2 * MOST_ITERATIONS)

    def note(self, kind: Hashable) -> None:
        """Notes the iteration that ended."""
        self._kinds.append(kind)

    def forget(self) -> None:
        """Begins anew."""
        self._kinds.clear()

    @property
    def repeats(self) -> bool:
        """Whether the last iteration was of the kind of the one before."""
        return len(self._kinds) > 1 and self._kinds[-1] == self._kinds[-2]

    def period(self) -> int:
        """After how many iterations the same kinds came again in the same order.

        Returns:
            The least such number; 1 if the last ones were all alike, or nothing repeats yet.
        """
        kinds = list(self._kinds)
        for length in range(1, len(kinds) // 2 + 1):
            if kinds[-length:] == kinds[-2 * length : -length]:
                return length
        return 1
