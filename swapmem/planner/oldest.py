"""Which block was used longest ago: the victim where a plan says nothing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable


class Oldest:
    """Blocks in the order of their last use, which is looked up only when it matters.

    Args:
        last_use: the last use of a block as of now. Where it becomes less, `add` must say so.
    """

    def __init__(self, last_use: Callable[[int], int]) -> None:
        self._last_use = last_use
        self._heap: list[tuple[int, int]] = []
        self._listed: dict[int, int] = {}  # block -> its last use as noted

    def add(self, blocks: Iterable[int]) -> None:
        """These may leave, from now on.

        One that is listed already stays so, unless its last use is earlier than it was.
        """
        for block in blocks:
            used = self._last_use(block)
            if used < self._listed.get(block, used + 1):
                self._listed[block] = used
                heapq.heappush(self._heap, (used, block))

    def take(self, may_leave: Callable[[int], bool], held: Callable[[int], bool]) -> int | None:
        """Removes and returns the oldest that may leave and is not held; None if there is none.

        What may not leave is dropped from the list, what is held stays in it.
        """
        kept = []
        found = None
        while self._heap and found is None:
            noted, block = heapq.heappop(self._heap)
            if self._listed.get(block) != noted:
                continue  # it was listed again
            if not may_leave(block):
                del self._listed[block]
                continue
            used = self._last_use(block)
            if used > noted:
                self._listed[block] = used
                heapq.heappush(self._heap, (used, block))
            elif held(block):
                kept.append((noted, block))
            else:
                del self._listed[block]
                found = block
        for entry in kept:
            heapq.heappush(self._heap, entry)
        return found
