"""What the engine does without a plan, roughly: for comparison with one.

- Where an allocation or a touched block needs room, the least recently used blocks leave.
- The oldest are copied out ahead of need, an eighth of the budget, and stay until their room is
  needed; then they leave at once.
- In backward what the next ops touch is fetched ahead, a quarter of the budget, in place of the
  oldest blocks that are copied already. What no later op touches is the first to leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swapmem.planner.replay import Replay

if TYPE_CHECKING:
    from swapmem.planner.simulate import Simulator

CLEAN_SHARE = 8
CLEAN_MOST_BYTES = 256 << 20
FETCH_SHARE = 4
LONG_AGO = -(1 << 40)


class Lru(Replay):
    """A device without a plan, on which the iterations of a trace run."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator, [])
        self.clean_bytes = min(self.budget_bytes // CLEAN_SHARE, CLEAN_MOST_BYTES)
        self.backward = [op.phase == "backward" for op in simulator.trace.ops]
        self.retired: list[list[int]] = [[] for _ in range(self.ops)]
        for block, uses in enumerate(simulator.uses):
            if uses and simulator.born[block] >= 0 and uses[-1] < self.ops:
                self.retired[uses[-1]].append(block)
        self.fetch_at = [self._ahead(op) for op in range(self.ops)]

    def _ahead(self, op: int) -> list[int]:
        """What the next ops of backward touch, a quarter of the budget."""
        found: dict[int, None] = {}
        room = self.budget_bytes // FETCH_SHARE
        while self.backward[op] and op + 1 < self.ops and self.backward[op + 1]:
            op += 1
            for block in self.s.order[op]:
                if block not in found:
                    room -= self.sizes[block]
                    if room < 0:
                        return list(found)
                    found[block] = None
        return list(found)

    def ask(self, block: int, urgent: bool) -> None:
        """What will be needed soon is as good as used."""
        self.came[block] = self.slot // 2
        super().ask(block, urgent)

    def start(self) -> None:
        """Makes room for what is fetched, as far as blocks can leave at once."""
        while self.in_queue and not self.lanes.coming and not self.allocating:
            needed = self.sizes[self.in_queue[0][0]] + self.need_bytes
            victim = None
            if self.resident_bytes + needed > self.budget_bytes:
                victim = self.victim()
            if victim is None:
                break
            if not self.store.has(victim) or self.last_use(victim) >= self.slot // 2:
                self.list_again([victim])
                break
            self.send(victim)
        super().start()

    def op_ended(self, op: int) -> None:
        """Retires what no later op touches, and copies out what will leave next."""
        if self.backward[op]:
            for block in self.retired[op]:
                self.came[block] = LONG_AGO
            self.list_again(self.retired[op])
        ready = self.budget_bytes - self.resident_bytes + self.leaving_bytes
        oldest = []
        while ready < self.clean_bytes:
            victim = self.victim()
            if victim is None:
                break
            oldest.append(victim)
            self.clean(victim)
            ready += self.sizes[victim]
        self.list_again(oldest)
        super().start()

    def last_use(self, block: int) -> int:
        """As for every device; what is retired was last used long ago."""
        came = self.came.get(block)
        return LONG_AGO if came == LONG_AGO else super().last_use(block)
