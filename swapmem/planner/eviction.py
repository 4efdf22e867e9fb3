"""Room on a simulated device where no plan makes any: the least recently used blocks leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from swapmem.planner.errors import Infeasible
from swapmem.planner.oldest import Oldest
from swapmem.planner.residency import Residency

if TYPE_CHECKING:
    from swapmem.planner.simulate import Simulator

NOTHING: frozenset[int] = frozenset()


class Eviction(Residency):
    """A device that knows where in its iteration it is, and so what may leave.

    Attributes:
        s: the trace, prepared.
        slot: where the iteration is.
        fresh: what was allocated in the slot so far, where that is known one by one.
        gone: what was freed in it.
        came: for blocks that were fetched, at which op they arrived.
        misses: copies that no plan asked for.
        miss_bytes: their bytes.
    """

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator.sizes, simulator.machine)
        self.s = simulator
        self.slot = 0
        self.fresh: list[int] = []
        self.gone: set[int] = set()
        self.came: dict[int, int] = {}
        self.oldest: Oldest | None = None
        self.misses = self.miss_bytes = 0

    def missed(self, block: int) -> None:
        """A block moves that no plan moves."""
        self.misses += 1
        self.miss_bytes += self.sizes[block]

    def step(self, size: int) -> bool:
        """One step to room for so many bytes: waits, or makes a block leave; True for that."""
        if self.resident_bytes - self.leaving_bytes + size > self.budget_bytes:
            victim = self.victim()
            if victim is not None:
                self.missed(victim)
                self.send(victim)
                self.start()
                return True
        if not self.lanes.busy:
            self.refuse(self.resident_bytes + size)
        self.wait()
        return False

    def victim(self) -> int | None:
        """Takes the block that has to leave first from the list; None if none may."""
        if self.oldest is None:
            self.oldest = Oldest(self.last_use)
            born, slot = self.s.born, self.slot
            self.oldest.add(b for b in range(len(born)) if born[b] < slot and self._may_leave(b))
            self.oldest.add(self.fresh)
        return self.oldest.take(self._may_leave, self._is_held)

    def list_again(self, blocks: Iterable[int]) -> None:
        """These may leave, in the order of their last use as of now."""
        if self.oldest is not None:
            self.oldest.add(blocks)

    def last_use(self, block: int) -> int:
        """The op that used the block last, as far as order of leaving goes."""
        used = self.s.last_use(block, self.slot // 2)
        return max(used, self.came.get(block, used))

    def _may_leave(self, block: int) -> bool:
        freed = self.s.freed[block]
        live = freed > self.slot or (freed == self.slot and block not in self.gone)
        return live and block not in self.away and self.s.eligible[block]

    def _is_held(self, block: int) -> bool:
        return block in self.held or (self.slot % 2 == 1 and self.s.born[block] == self.slot)

    def arrived(self, block: int) -> None:
        """A block is resident again: as if it had just been used."""
        self.came[block] = self.slot // 2
        self.list_again((block,))

    def refuse(self, needed_bytes: int) -> NoReturn:
        """Nothing that is left can leave, and it is too much."""
        op, ops = self.slot // 2, self.s.trace.ops
        name = ops[op].name if op < len(ops) else "the end of the iteration"
        raise Infeasible(name, op, needed_bytes, self.budget_bytes)
