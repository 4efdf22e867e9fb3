"""What the store holds in a simulation, and what goes on to the tier behind it."""

from __future__ import annotations

from collections.abc import Iterable

from swapmem.planner.trace import Machine

# The store begins to pass on the oldest before it is full, so that copies out find room.
FULL_SHARE = 7 / 8


class StoreTiers:
    """Copies that are valid, and, where the store has a limit, the tier that each of them is in.

    ``used_bytes == Σ bytes of copies in the store, under way to it and under way down from it``
    """

    def __init__(self, machine: Machine) -> None:
        self.limit_bytes = machine.store_bytes
        self.limited = machine.store_bytes is not None
        self.has_behind = machine.behind is not None
        self.used_bytes = 0
        self.near: dict[int, int] = {}  # block -> bytes, oldest first
        self.behind: set[int] = set()
        self.moving: int | None = None

    def has(self, block: int) -> bool:
        """Whether a valid copy is there."""
        return block in self.near or block in self.behind

    def is_behind(self, block: int) -> bool:
        """Whether its copy is in the tier behind."""
        return block in self.behind

    def is_far(self, size: int) -> bool:
        """Whether a copy of this size can only be in the tier behind."""
        return self.limit_bytes is not None and self.has_behind and size > self.limit_bytes

    def take(self, size: int) -> bool:
        """Room for a copy out that is about to start, if there is any."""
        if self.limit_bytes is not None and self.used_bytes + size > self.limit_bytes:
            return False
        self.used_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """A copy out was given up."""
        self.used_bytes -= size

    def stored(self, block: int, size: int, far: bool) -> None:
        """A copy out is complete."""
        if far:
            self.behind.add(block)
        else:
            self.near[block] = size

    def hold(self, block: int, size: int) -> None:
        """A copy that is there from the begin on."""
        if self.take(size):
            self.near[block] = size
        else:
            self.behind.add(block)

    def release(self, blocks: Iterable[int]) -> None:
        """Copies that are out of date, or of blocks that are freed."""
        for block in blocks:
            size = self.near.pop(block, None)
            if size is None:
                self.behind.discard(block)
            elif block == self.moving:
                self.moving = None  # its bytes count until the move ends
            else:
                self.used_bytes -= size

    def next_down(self, wanted: bool) -> int | None:
        """The copy to pass on next, if it is time: the oldest."""
        limit = self.limit_bytes
        if limit is None or not self.has_behind or not self.near:
            return None
        if not wanted and self.used_bytes <= limit * FULL_SHARE:
            return None
        self.moving = next(iter(self.near))
        return self.moving

    def moved_down(self, block: int, size: int) -> None:
        """A move is complete."""
        self.used_bytes -= size
        if self.moving == block:
            del self.near[block]
            self.behind.add(block)
        self.moving = None

    def rename(self, names: dict[int, int]) -> None:
        """The iteration is over: blocks go by the names that they have in the next one."""
        self.release([b for b in [*self.near, *self.behind] if b not in names])
        self.near = {names[b]: size for b, size in self.near.items()}
        self.behind = {names[b] for b in self.behind}
        self.moving = None if self.moving is None else names.get(self.moving)

    def state(self) -> tuple[object, ...]:
        """Equal if what is held is equal."""
        return dict(self.near), set(self.behind), self.moving
