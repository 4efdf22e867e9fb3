"""What an iteration takes with a given set of swaps, found out without an engine.

A simulation has a lane that computes and one for copies in each direction (`swapmem.planner.lanes`)
and counts memory to the byte: a block counts from its allocation, or from the moment its copy in
starts, until it is freed or its copy out is complete. How the swaps are carried out is written down
in `swapmem.planner.replay`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from swapmem.planner.errors import Infeasible
from swapmem.planner.lru import Lru
from swapmem.planner.plan import Swap
from swapmem.planner.replay import Replay
from swapmem.planner.simulation import Copy, Simulation, Stall
from swapmem.planner.trace import Change, Machine, Trace

__all__ = ["Copy", "Infeasible", "Simulation", "Simulator", "Stall", "lru", "simulate"]


# The second iteration is shorter than the first by less than this factor, over networks, links and
# budgets of all kinds.
_ALIKE = 1.01


class Slot:
    """The changes of a slot, summed up for the case that all of them fit.

    Attributes:
        changes: in order; without `late`.
        most_bytes: the most that they add to what is resident, at any point.
        net_bytes: what they add in the end.
        frees: blocks that they free.
        births: blocks that they allocate.
        birth_bytes: their bytes.
        late: blocks freed after the last allocation of an op: they are taken to live to its end.
        late_bytes: their bytes.
    """

    __slots__ = (
        "birth_bytes",
        "births",
        "changes",
        "frees",
        "late",
        "late_bytes",
        "most_bytes",
        "net_bytes",
    )

    def __init__(self, changes: list[Change], sizes: list[int], in_op: bool) -> None:
        end = len(changes)
        while in_op and end and not changes[end - 1].allocates:
            end -= 1
        self.changes = [(c.block, c.allocates) for c in changes[:end]]
        sums = list(accumulate(sizes[b] if new else -sizes[b] for b, new in self.changes))
        self.most_bytes = max(sums, default=0)
        self.net_bytes = sums[-1] if sums else 0
        self.frees = frozenset(b for b, new in self.changes if not new)
        self.births = tuple(b for b, new in self.changes if new)
        self.birth_bytes = sum(sizes[b] for b in self.births)
        self.late = frozenset(c.block for c in changes[end:])
        self.late_bytes = sum(sizes[b] for b in self.late)


class Simulator:
    """A trace, prepared so that many sets of swaps can be tried on it quickly.

    Args:
        trace: one iteration, taken to be followed by others of its kind.
        machine: what to run it on; None for the machine where it was recorded.

    Example:
        >>> from tests.planner import synthetic
        >>> trace = synthetic.chain(4, fraction=1.0)
        >>> round(Simulator(trace).run([]).seconds, 6)
        1.2
    """

    def __init__(self, trace: Trace, machine: Machine | None = None) -> None:
        self.trace = trace
        self.machine = machine or trace.machine
        blocks, ops = trace.blocks, trace.ops
        self.sizes = [block.bytes for block in blocks]
        self.touches = [frozenset(op.touches) for op in ops]
        self.order = [op.touches for op in ops]
        self.writes = [frozenset(op.writes) for op in ops]
        self.seconds = [op.seconds for op in ops]
        self.gaps = [op.gap_seconds for op in ops]
        self.compute_seconds = sum(self.seconds) + sum(self.gaps) + trace.tail_seconds
        # From each op's begin to the iteration's end, if nothing is waited for.
        steps = [trace.tail_seconds]
        for op in reversed(ops):
            steps += (op.seconds, op.gap_seconds)
        self.rest_seconds = list(accumulate(steps))[1::2][::-1]
        by_slot: list[list[Change]] = [[] for _ in range(2 * len(ops) + 1)]
        for change in trace.changes:
            by_slot[change.slot].append(change)
        self.slots = [
            Slot(changes, self.sizes, slot % 2 == 1) if changes else None
            for slot, changes in enumerate(by_slot)
        ]
        end = 2 * len(ops) + 1
        self.born = [-1 if b.born is None else b.born for b in blocks]
        self.freed = [end if b.freed is None else b.freed for b in blocks]
        self.eligible = [b.eligible for b in blocks]
        self.at_begin = [i for i, b in enumerate(blocks) if b.born is None]
        self.next_self = _next_selves(trace)
        self.needs = self._needs()
        self.uses = _uses(trace)

    def run(self, swaps: Iterable[Swap]) -> Simulation:
        """Simulates iterations with these swaps until they repeat, and tells of the last.

        Args:
            swaps: in the order of a plan. Copies of one direction that are asked for at the same
                moment start in this order; copies in, by the op that needs them first.

        Returns:
            The second iteration, or the first where it leaves everything as it found it.

        Raises:
            Infeasible: with the swaps, and with whatever else may leave, some op cannot run.
        """
        found = self.run_within(swaps, float("inf"))
        assert found is not None
        return found

    def run_within(self, swaps: Iterable[Swap], limit_seconds: float) -> Simulation | None:
        """The same as `run`, but given up as soon as the iteration must take longer than a limit.

        The iterations are much alike: one that begins with everything in its place tells whether
        the next can be within the limit.
        """
        replay = Replay(self, list(swaps))
        found = replay.iterate(limit_seconds * _ALIKE)
        if found is None or replay.repeats:
            return found
        return replay.iterate(limit_seconds)

    def _needs(self) -> list[int]:
        """For each op the room that it and the gap after it take beyond what they free.

        Copies in leave that room alone.
        """
        needs = []
        for op in range(len(self.seconds)):
            most = live = 0
            for slot in (self.slots[2 * op + 1], self.slots[2 * op + 2]):
                if slot is not None:
                    most = max(most, live + slot.most_bytes)
                    live += slot.net_bytes - slot.late_bytes
            needs.append(most)
        return needs

    def last_use(self, block: int, op: int) -> int:
        """The last op before `op` that used the block; negative if that was an iteration ago."""
        uses = self.uses[block]
        at = bisect_right(uses, op - 1)
        if at:
            return uses[at - 1]
        return (uses[-1] if uses else 0) - len(self.trace.ops)


def simulate(trace: Trace, swaps: Iterable[Swap], machine: Machine | None = None) -> Simulation:
    """What an iteration takes with these swaps, in the steady state.

    Args:
        trace: one iteration.
        swaps: as in a plan.
        machine: what to run it on; None for the machine where the trace was recorded.

    Returns:
        Its time, memory, copies and stalls.

    Raises:
        Infeasible: some op cannot run within the budget, whatever leaves.
    """
    return Simulator(trace, machine).run(swaps)


def lru(trace: Trace, machine: Machine | None = None) -> Simulation:
    """What an iteration takes without a plan, roughly: see `swapmem.planner.lru`.

    Args:
        trace: one iteration.
        machine: what to run it on; None for the machine where the trace was recorded.

    Returns:
        The third iteration, where everything has found its place. All copies out that made room in
        time of need, and all copies in that were waited for from their begin, are misses.

    Raises:
        Infeasible: some op cannot run within the budget, whatever leaves.
    """
    device = Lru(Simulator(trace, machine))
    for _ in range(2):
        device.iterate()
    found = device.iterate()
    assert found is not None
    return found


def _uses(trace: Trace) -> list[list[int]]:
    """For each block the ops that touch it, and the one in or before which it is born."""
    uses: list[list[int]] = [[] for _ in trace.blocks]
    for block, born in enumerate(b.born for b in trace.blocks):
        if born is not None:
            uses[block].append(born // 2)
    for i, op in enumerate(trace.ops):
        for block in op.touches:
            if not uses[block] or uses[block][-1] != i:
                uses[block].append(i)
    return uses


def _next_selves(trace: Trace) -> dict[int, int]:
    """Which block of the next iteration each block is that outlives this one."""
    lasting = {i: i for i, b in enumerate(trace.blocks) if b.born is None and b.freed is None}
    carried = {b.carried_from: i for i, b in enumerate(trace.blocks) if b.carried_from is not None}
    return lasting | carried
