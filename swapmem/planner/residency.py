"""A simulated device's memory, and the copies that go on while time passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from swapmem.planner.lanes import Lanes, Transfer
from swapmem.planner.simulation import Copy
from swapmem.planner.store_tiers import StoreTiers
from swapmem.planner.trace import Machine

# Where a block is that is not simply resident.
LEAVING = 1  # its copy out is asked for; it still counts
OUT = 2
ASKED = 3  # its copy in is asked for
COMING = 4  # its copy in runs; it counts


class Residency:
    """Which blocks are resident, on their way and out, as time passes.

    ``resident_bytes == Σ sizes of live blocks - Σ sizes of those that are OUT or ASKED <= budget``,
    ``leaving_bytes == Σ sizes of those that are LEAVING``.
    """

    def __init__(self, sizes: list[int], machine: Machine) -> None:
        self.sizes = sizes
        self.budget_bytes = machine.budget_bytes
        self.workers = machine.workers
        self.lanes = Lanes(machine)
        self.store = StoreTiers(machine)
        self.now = 0.0
        self.begun = 0.0  # when the iteration began
        self.away: dict[int, int] = {}
        self.resident_bytes = 0
        self.leaving_bytes = 0
        self.out_queue: deque[tuple[int, float]] = deque()
        self.in_queue: deque[tuple[int, float]] = deque()
        self.cleaning: set[int] = set()  # copied out, but not to leave
        self.allocating = False  # an allocation waits: no copy in starts
        self.need_bytes = 0  # what will be allocated before the next op
        self.held: frozenset[int] = frozenset()  # what an op waits for, or works on
        self.start_counting()

    def start_counting(self) -> None:
        """From here on count for a new iteration."""
        self.begun = self.now
        self.peak_bytes = self.resident_bytes
        self.cancelled = 0
        self.copies: list[Copy] = []
        self.curve = [(0.0, self.resident_bytes)]

    def arrived(self, block: int) -> None:
        """A block is resident again: its copy in is complete, or its copy out given up."""

    # --- time

    def compute(self, seconds: float, slowdown: float) -> None:
        """The device computes for so long, longer while copies run; they go on meanwhile."""
        lanes = self.lanes
        while lanes.busy:
            factor = slowdown if lanes.out or lanes.coming else 1.0
            passed, complete = lanes.advance(seconds * factor)
            self.now += passed
            seconds -= passed / factor
            if not complete:
                return
            self._completed(complete)
        self.now += seconds

    def wait(self) -> None:
        """The device waits until a copy is complete."""
        passed, complete = self.lanes.advance(float("inf"))
        self.now += passed
        self._completed(complete)

    def _completed(self, complete: Iterable[Transfer]) -> None:
        began = self.begun
        for transfer in complete:
            block, size = transfer.block, transfer.bytes
            if transfer.direction == "down":
                self.store.moved_down(block, size)
                continue
            if transfer.direction == "out":
                self.store.stored(block, size, transfer.far)
                self.cleaning.discard(block)
                if block in self.away:
                    self.away[block] = OUT
                    self.leaving_bytes -= size
                    self.count(-size)
            else:
                del self.away[block]
                self.arrived(block)
            asked, begun = transfer.asked - began, transfer.begun - began
            self.copies.append(
                Copy(block, transfer.direction, asked, begun, self.now - began, size)
            )
        self.start()

    def start(self) -> None:
        """Starts the copies that have room in their lane and, coming in, in the budget."""
        lanes, store = self.lanes, self.store
        while self.out_queue and len(lanes.out) < self.workers:
            block, asked = self.out_queue[0]
            size = self.sizes[block]
            far = store.is_far(size)
            if not far and not store.take(size):
                break
            self.out_queue.popleft()
            lanes.start(Transfer("out", block, size, asked, self.now, far))
        if store.limited and not lanes.down:
            oldest = store.next_down(bool(self.out_queue))
            if oldest is not None:
                size = self.sizes[oldest]
                lanes.start(Transfer("down", oldest, size, self.now, self.now, True))
        while self.in_queue and len(lanes.coming) < self.workers and not self.allocating:
            block, asked = self.in_queue[0]
            size = self.sizes[block]
            need = 0 if block in self.held else self.need_bytes
            if self.resident_bytes + size + need > self.budget_bytes:
                break
            self.in_queue.popleft()
            self.away[block] = COMING
            self.count(size)
            lanes.start(Transfer("in", block, size, asked, self.now, store.is_behind(block)))

    def count(self, size: int) -> None:
        """So many bytes more are resident."""
        self.resident_bytes += size
        if self.resident_bytes > self.peak_bytes:
            self.peak_bytes = self.resident_bytes
        self.curve.append((self.now - self.begun, self.resident_bytes))

    # --- what is asked for

    def send(self, block: int) -> None:
        """A resident block is to leave; without a copy if the one in the store is still valid."""
        if self.store.has(block):
            self.away[block] = OUT
            self.count(-self.sizes[block])
            return
        self.away[block] = LEAVING
        self.leaving_bytes += self.sizes[block]
        if block in self.cleaning:
            self.cleaning.discard(block)
        else:
            self.out_queue.append((block, self.now))

    def clean(self, block: int) -> None:
        """A resident block is copied out and stays: it can leave at once when it has to."""
        if not self.store.has(block) and block not in self.cleaning:
            self.cleaning.add(block)
            self.out_queue.append((block, self.now))

    def ask(self, block: int, urgent: bool) -> None:
        """The block is needed: it comes in, or stays if it has not left. `start` must follow."""
        where = self.away.get(block)
        if where == LEAVING:
            self._keep(block)
        elif where == OUT or (where == ASKED and urgent):
            asked = self.now
            if where == ASKED:
                entry = next(entry for entry in self.in_queue if entry[0] == block)
                self.in_queue.remove(entry)
                asked = entry[1]
            self.away[block] = ASKED
            if urgent:
                self.in_queue.appendleft((block, asked))
            else:
                self.in_queue.append((block, asked))

    def _keep(self, block: int) -> None:
        self._forget(block)
        self.leaving_bytes -= self.sizes[block]
        self.cancelled += 1
        self.arrived(block)

    def free(self, block: int) -> None:
        """The block is gone, wherever it was."""
        where = self.away.get(block)
        if where in (None, LEAVING, COMING):
            self.count(-self.sizes[block])
        if where == LEAVING:
            self.leaving_bytes -= self.sizes[block]
        if where is not None:
            self._forget(block)
        self.written((block,))

    def written(self, blocks: Collection[int]) -> None:
        """Their copies in the store are of no use any more."""
        self.store.release(blocks)
        if self.cleaning:
            for block in self.cleaning.intersection(blocks):
                self.cleaning.discard(block)
                self._stop_copy_out(block)

    def _forget(self, block: int) -> None:
        """Whatever was asked for this block is not wanted any more."""
        where = self.away.pop(block)
        if where == LEAVING:
            self._stop_copy_out(block)
        elif where == ASKED:
            self._unqueue(self.in_queue, block)
        elif where == COMING:
            self._abort(self.lanes.coming, block)

    def _stop_copy_out(self, block: int) -> None:
        """Its copy out, which waits or runs, is given up."""
        if not self._unqueue(self.out_queue, block):
            transfer = self._abort(self.lanes.out, block)
            if not transfer.far:
                self.store.give_back(transfer.bytes)

    def _unqueue(self, queue: deque[tuple[int, float]], block: int) -> bool:
        for entry in queue:
            if entry[0] == block:
                queue.remove(entry)
                return True
        return False

    def _abort(self, lane: list[Transfer], block: int) -> Transfer:
        transfer = next(transfer for transfer in lane if transfer.block == block)
        lane.remove(transfer)
        return transfer

    def rename(self, names: dict[int, int]) -> None:
        """The iteration is over: blocks go by the names that they have in the next one.

        Those that have none are gone.
        """
        for block in [b for b in {*self.away, *self.cleaning} if b not in names]:
            self.free(block)
        self.away = {names[b]: where for b, where in self.away.items()}
        self.out_queue = deque((names[b], asked) for b, asked in self.out_queue)
        self.in_queue = deque((names[b], asked) for b, asked in self.in_queue)
        for transfer in [*self.lanes.out, *self.lanes.coming, *self.lanes.down]:
            transfer.block = names.get(transfer.block, transfer.block)
        self.cleaning = {names[b] for b in self.cleaning}
        self.store.rename(names)
