"""Plays a set of swaps on a trace, op by op.

How they are carried out, exactly:

- A copy out is asked for at the end of its op and starts when those asked for before it are done.
  A block whose copy in the store is still valid (nothing wrote to it since it came back) leaves at
  once. A block that is needed before its copy out is complete stays.
- A copy in is asked for at the begin of its op, and starts when the lane has room for it, and the
  budget for it and for what will be allocated before the next op; it waits for those asked for
  before it.
- An op begins when its touches are resident. Blocks that it waits for go first in the lane.
- All allocations of an op happen at its begin, in order; those between two ops right after the
  first. An allocation for which there is no room waits for copies out; no copy in starts meanwhile.
- Where nothing on its way out makes room, the least recently used blocks leave that the op does not
  hold: a miss. So is a touched block that is out and not on its way.
- At the iteration's end everything goes on: what is out or on its way stays so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swapmem.planner.eviction import NOTHING, Eviction
from swapmem.planner.plan import Swap
from swapmem.planner.residency import ASKED, COMING, OUT
from swapmem.planner.simulation import Simulation, Stall

if TYPE_CHECKING:
    from swapmem.planner.simulate import Simulator, Slot


class Replay(Eviction):
    """A device on which the iterations of a trace run one after the other."""

    def __init__(self, simulator: Simulator, swaps: list[Swap]) -> None:
        super().__init__(simulator)
        self.ops = len(simulator.seconds)
        self.repeats = False
        self.stalls: list[Stall] = []
        self.out_after: list[list[int]] = [[] for _ in range(self.ops + 1)]  # -1 is the last
        self.fetch_at: list[list[int]] = [[] for _ in range(self.ops)]
        self._schedule(swaps)
        self._begin_fitting()

    def _schedule(self, swaps: list[Swap]) -> None:
        next_self = self.s.next_self
        for swap in swaps:
            self.out_after[swap.out_after].append(swap.block)
        fetched = [(s.needed_by or 0, s.fetch_at, s.block) for s in swaps if s.fetch_at is not None]
        for _, fetch_at, block in sorted(fetched, key=lambda entry: entry[0]):
            if fetch_at >= self.ops:
                block = next_self.get(block, block)
                self._begin_out(block)
            self.fetch_at[fetch_at % self.ops].append(block)
        for swap in swaps:
            if swap.fetch_at is None and swap.block in next_self:
                self._begin_out(next_self[swap.block])
        there = sum(self.sizes[b] for b in self.s.at_begin)
        self.resident_bytes = there - sum(self.sizes[b] for b in self.away)

    def _begin_out(self, block: int) -> None:
        if block not in self.away:
            self.away[block] = OUT
            self.store.hold(block, self.sizes[block])

    def _begin_fitting(self) -> None:
        """What does not fit at the first begin is out: the first iteration is not what counts."""
        for block in sorted(self.s.at_begin, key=lambda b: self.s.last_use(b, 0)):
            if self.resident_bytes <= self.budget_bytes:
                break
            if self.s.eligible[block] and block not in self.away:
                self._begin_out(block)
                self.resident_bytes -= self.sizes[block]
        if self.resident_bytes > self.budget_bytes:
            self.refuse(self.resident_bytes)

    def iterate(self, limit_seconds: float = float("inf")) -> Simulation | None:
        """One iteration; `repeats` tells afterwards whether the next would be the same.

        Args:
            limit_seconds: how long it may take.

        Returns:
            What was found; None as soon as it has to take longer: then this is of no more use.
        """
        self.start_counting()
        self.misses = self.miss_bytes = 0
        self.stalls = []
        op_begin: list[float] = []
        op_end: list[float] = []
        s, begun, slowdown = self.s, self.now, self.s.machine.link.slowdown
        before = self._state()
        self._leave(self.out_after[-1])
        for op in range(self.ops):
            self.slot = 2 * op
            slot = s.slots[2 * op]
            if slot is not None:
                self._change(slot)
            if s.gaps[op]:
                self.compute(s.gaps[op], 1.0)
            self.slot += 1
            self.held = touched = s.touches[op]
            self.need_bytes = s.needs[op]
            if self.fetch_at[op]:
                for block in self.fetch_at[op]:
                    self.ask(block, False)
                self.start()
            if self.away and not self.away.keys().isdisjoint(touched):
                self._bring(op)
            slot = s.slots[2 * op + 1]
            if slot is not None:
                self._change(slot)
            op_begin.append(self.now - begun)
            if op_begin[-1] + s.rest_seconds[op] > limit_seconds:
                return None
            self.compute(s.seconds[op], slowdown)
            op_end.append(self.now - begun)
            self.slot += 1
            self.held = NOTHING
            if s.writes[op]:
                self.written(s.writes[op])
            if slot is not None and slot.late:
                self._free(slot.late, slot.late_bytes)
            self.op_ended(op)
        self.slot = 2 * self.ops
        slot = s.slots[self.slot]
        if slot is not None:
            self._change(slot)
        if s.trace.tail_seconds:
            self.compute(s.trace.tail_seconds, 1.0)
        found = self._result(op_begin, op_end)
        self._turn()
        self.repeats = not self.lanes.busy and self._state() == before
        return found

    def _result(self, op_begin: list[float], op_end: list[float]) -> Simulation:
        return Simulation(
            seconds=self.now - self.begun,
            compute_seconds=self.s.compute_seconds,
            peak_bytes=self.peak_bytes,
            out_bytes=sum(c.bytes for c in self.copies if c.direction == "out"),
            in_bytes=sum(c.bytes for c in self.copies if c.direction == "in"),
            stall_seconds=sum(stall.seconds for stall in self.stalls),
            stalls=tuple(self.stalls),
            misses=self.misses,
            miss_bytes=self.miss_bytes,
            cancelled=self.cancelled,
            op_begin_seconds=tuple(op_begin),
            op_end_seconds=tuple(op_end),
            copies=tuple(self.copies),
            curve=tuple(self.curve),
        )

    def _state(self) -> tuple[object, ...]:
        return dict(self.away), self.store.state(), len(self.in_queue), len(self.out_queue)

    def _turn(self) -> None:
        """The iteration is over, and the next begins with what is there."""
        self.rename(self.s.next_self)
        there = sum(self.sizes[b] for b in self.s.at_begin)
        out = sum(self.sizes[b] for b, where in self.away.items() if where in (OUT, ASKED))
        self.resident_bytes = there - out
        names = self.s.next_self
        self.came = {names[b]: op - self.ops for b, op in self.came.items() if b in names}
        self.oldest = None
        self.slot = 0
        self._begin_fitting()

    # --- what an op needs

    def op_ended(self, op: int) -> None:
        """What follows the end of an op."""
        if self.out_after[op]:
            self._leave(self.out_after[op])

    def _leave(self, blocks: list[int]) -> None:
        for block in blocks:
            if block not in self.away:
                self.send(block)
        self.start()

    def _change(self, slot: Slot) -> None:
        resident = self.resident_bytes + slot.most_bytes
        if resident > self.budget_bytes or (
            self.away and not self.away.keys().isdisjoint(slot.frees)
        ):
            self._change_one_by_one(slot)
            return
        if slot.most_bytes > max(0, slot.net_bytes):
            self.count(slot.most_bytes)
            self.count(slot.net_bytes - slot.most_bytes)
        else:
            self.count(slot.net_bytes)
        self.need_bytes = max(0, self.need_bytes - slot.birth_bytes)
        if slot.frees:
            self.written(slot.frees)
        self.list_again(slot.births)
        if self.in_queue and slot.frees:
            self.start()

    def _change_one_by_one(self, slot: Slot) -> None:
        self.fresh, self.gone = [], set()
        for block, allocates in slot.changes:
            if not allocates:
                self.free(block)
                self.gone.add(block)
                self.start()  # its copy may have stood in the way of others
                continue
            size = self.sizes[block]
            if self.resident_bytes + size > self.budget_bytes:
                begun, missed = self.now, False
                self.allocating = True
                while self.resident_bytes + size > self.budget_bytes:
                    missed |= self.step(size)
                self.allocating = False
                self._stalled(begun, None, "no plan" if missed else "copy out late")
            self.count(size)
            self.need_bytes = max(0, self.need_bytes - size)
            self.fresh.append(block)
            self.list_again((block,))
        self.start()

    def _free(self, blocks: frozenset[int], size: int) -> None:
        if self.away and not self.away.keys().isdisjoint(blocks):
            for block in blocks:
                self.free(block)
        else:
            self.count(-size)
            self.written(blocks)
        self.start()

    def _bring(self, op: int) -> None:
        """What the op touches comes in, before everything else."""
        waited_for = [block for block in self.s.order[op] if block in self.away]
        unplanned = {block for block in waited_for if self.away[block] == OUT}
        for block in reversed(waited_for):
            self.ask(block, True)
        self.start()
        for block in unplanned:
            self.missed(block)
        for block in waited_for:
            begun = self.now
            cause = "no plan" if block in unplanned else "copy in late"
            while block in self.away:
                if self.away[block] == COMING or len(self.lanes.coming) >= self.workers:
                    self.wait()
                elif self.step(self.sizes[block]):
                    cause = "no plan"
                elif cause == "copy in late":
                    cause = "copy out late"
            self._stalled(begun, block, cause)

    def _stalled(self, begun: float, block: int | None, cause: str) -> None:
        if self.now > begun:
            self.stalls.append(Stall(self.slot // 2, self.now - begun, block, cause))
