"""Searches for swaps: several ways to start, then changes where it stalls, each one simulated.

Everything is counted in steps, never in seconds: the same trace gives the same plan everywhere.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from swapmem.planner.bounds import Bound, bound_of
from swapmem.planner.cover import choose
from swapmem.planner.errors import Infeasible
from swapmem.planner.fetches import schedule
from swapmem.planner.improve import changes
from swapmem.planner.plan import Swap
from swapmem.planner.prepared import Prepared, prepare
from swapmem.planner.selection import Choice, Order, Problem, Timeline
from swapmem.planner.simulate import Simulation, Simulator
from swapmem.planner.trace import Machine, Trace

# A trace of so much work is tried once in about a second, the half of it three times.
_WORK = 75_000
_FEWEST_STEPS, _MOST_STEPS = 8, 160
# Ordered by how much each adds to those before it, over networks, links and budgets of all kinds.
STARTS: tuple[tuple[Order, float, float, bool], ...] = (
    ("longest", 1.5, 2.0, False),
    ("furthest", 2.5, 8.0, False),
    ("longest", 0.0, 2.0, False),
    ("earliest", 1.5, 0.5, True),
    ("furthest", 0.0, 2.0, False),
    ("longest", 1.0, 0.5, False),
    ("furthest", 1.0, 8.0, True),
    ("earliest", 0.5, 0.5, False),
    ("longest", 1.5, 0.5, True),
    ("largest", 1.0, 8.0, True),
    ("furthest", 1.0, 8.0, False),
    ("largest", 0.5, 0.5, True),
)
# Nearer to the bound than this nothing is gained that could be measured.
_NEAR = 1.002
# So near little is left to gain: what has not become better in so many tries is left as it is.
_CLOSE = 1.02
_PATIENCE = 12


@dataclass(frozen=True)
class Found:
    """A set of swaps and what it takes.

    Attributes:
        choice: what it was made from.
        swaps: in the order of a plan.
        simulation: of an iteration with them.
        bound_seconds: what no swaps can beat.
    """

    choice: Choice
    swaps: tuple[Swap, ...]
    simulation: Simulation
    bound_seconds: float

    @property
    def score_seconds(self) -> float:
        """Of an iteration; one in which something happens that was not planned counts double."""
        return self.simulation.seconds * (2 if self.simulation.misses else 1)

    @property
    def score(self) -> tuple[int, float, int]:
        """The less, the better. What differs by less than a ten-thousandth moves fewer bytes."""
        it = self.simulation
        seconds = round(it.seconds / max(it.compute_seconds, 1e-12), 4)
        return (it.misses, seconds, it.out_bytes + it.in_bytes)

    @property
    def slowest_seconds(self) -> float:
        """Nothing slower than this has a better score."""
        it = self.simulation
        return float("inf") if it.misses else it.seconds + 1e-4 * it.compute_seconds


def search(trace: Trace, machine: Machine, steps: int | None = None) -> Found:
    """Searches for the best swaps without recomputing anything.

    Args:
        trace: one iteration.
        machine: what to plan for; a plan for it has to exist.
        steps: how many plans are simulated at most; None for as many as take about a second.

    Returns:
        The best ones found.
    """
    return Search(prepare(trace), machine).run(steps or default_steps(trace))


class Search:
    """Simulates plans, and goes on where it was.

    Args:
        prepared: one iteration.
        machine: what to plan for; a plan for it has to exist.
        bound: of both, if it is known already.

    Attributes:
        prepared: as given.
        problem: what there is to choose from.
    """

    def __init__(self, prepared: Prepared, machine: Machine, bound: Bound | None = None) -> None:
        self.prepared = prepared
        self.problem = Problem(prepared, machine)
        self._simulator = Simulator(prepared.trace, machine)
        self._bound = bound or bound_of(prepared, machine)
        self._starts = iter(_starts(Timeline.without_stalls(prepared)))
        self._best: Found | None = None
        self._left = 0
        self._spent = 0
        self._in_vain = 0
        # Of plans no more than this is kept: together they would take more memory than all else.
        self._tried: set[bytes] = set()

    def run(self, steps: int) -> Found:
        """Searches on.

        Args:
            steps: how many more plans are simulated at most, 1 at least.

        Returns:
            The best swaps found so far.

        Raises:
            Infeasible: no swaps make do with the budget.
        """
        self._left = steps
        best = self._best
        if best is None:
            best = self.attempt(next(self._starts))
            assert best is not None
        if self._bound.excess_bytes:
            best = self._changed(self._started(best))
        self._best = best
        return best

    def _started(self, best: Found) -> Found:
        # Half of the steps are for changes.
        while not self._over(best) and self._spent <= self._left:
            choice = next(self._starts, None)
            if choice is None:
                break
            found = self.attempt(choice, best)
            if found is not None and found.score < best.score:
                best, self._in_vain = found, 0
        return best

    def _changed(self, best: Found) -> Found:
        improved = True
        while improved and not self._over(best):
            improved = False
            for choice in changes(self.problem, best.choice, best.simulation):
                found = self.attempt(choice, best)
                if found is not None and found.score < best.score:
                    best, improved, self._in_vain = found, True, 0
                if improved or self._over(best):
                    break
        return best

    def attempt(self, choice: Choice, best: Found | None = None) -> Found | None:
        """Simulates a plan; None if its swaps were tried before, or are slower than the best."""
        swaps = tuple(schedule(self.problem, choose(self.problem, choice), choice))
        digest = _digest(swaps)
        if digest in self._tried:
            return None
        self._tried.add(digest)
        self._left -= 1
        self._spent += 1
        self._in_vain += 1
        limit_seconds = best.slowest_seconds if best is not None else float("inf")
        try:
            simulation = self._simulator.run_within(swaps, limit_seconds)
        except Infeasible:
            # The swaps are in each other's way; without any, the oldest blocks leave.
            swaps = ()
            simulation = self._simulator.run_within(swaps, limit_seconds)
        if simulation is None:
            return None
        # The bound adds up the same seconds in another order.
        return Found(choice, swaps, simulation, min(self._bound.seconds, simulation.seconds))

    def _over(self, best: Found) -> bool:
        it = best.simulation
        enough = _NEAR if self._in_vain < _PATIENCE else _CLOSE
        return self._left <= 0 or (not it.misses and it.seconds <= enough * self._bound.seconds)


def _digest(swaps: Iterable[Swap]) -> bytes:
    # By which op a block is needed follows from when it leaves.
    numbers = ((s.block, s.out_after, -1 if s.fetch_at is None else s.fetch_at) for s in swaps)
    packed = array("q", itertools.chain.from_iterable(numbers))
    return hashlib.blake2b(packed.tobytes(), digest_size=16).digest()


def _starts(timeline: Timeline) -> list[Choice]:
    return [Choice(timeline, *rules) for rules in STARTS]


def default_steps(trace: Trace) -> int:
    """How many plans of a trace are simulated in about a second."""
    touches = sum(len(op.touches) for op in trace.ops)
    work = 4 * len(trace.ops) + len(trace.changes) + touches
    return min(_MOST_STEPS, max(_FEWEST_STEPS, int((_WORK / max(work, 1)) ** 1.5)))
