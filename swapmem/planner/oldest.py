"""Which block was used longest ago: the victim where a plan says nothing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable


class Oldest:
    """Blocks in the order of their last use, which is looked up only when it matters.

    Args:
        last_use: the last use of a block as of now. It only ever grows.
    """

    def __init__(self, last_use: Callable[[int], int]) -> None:
        self._last_use = last_use
        self._heap: list[tuple[int, int]] = []
        self._listed: set[int] = set()

    def add(self, blocks: Iterable[int]) -> None:
        """These may leave, from now on; those that are listed already stay so."""
        for block in blocks:
            if block not in self._listed:
                self._listed.add(block)
                heapq.heappush(self._heap, (self._last_use(block), block))

    def take(self, may_leave: Callable[[int], bool], held: Callable[[int], bool]) -> int | None:
        """Removes and returns the oldest that may leave and is not held; None if there is none.

        What may not leave is dropped from the list, what is held stays in it.
        """
        kept = []
        found = None
        while self._heap and found is None:
            noted, block = heapq.heappop(self._heap)
            if not may_leave(block):
                self._listed.discard(block)
                continue
            used = self._last_use(block)
            if used > noted:
                heapq.heappush(self._heap, (used, block))
            elif held(block):
                kept.append((noted, block))
            else:
                self._listed.discard(block)
                found = block
        for entry in kept:
            heapq.heappush(self._heap, entry)
        return found
