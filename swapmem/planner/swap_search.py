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
_NEAR = 1.0005


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


def search(trace: Trace, machine: Machine, steps: int | None = None) -> Found:
    """Searches for the best swaps without recomputing anything.

    Args:
        trace: one iteration.
        machine: what to plan for; a plan for it has to exist.
        steps: how many plans are simulated at most; None for as many as take about a second.

    Returns:
        The best ones found.
    """
    prepared = prepare(trace)
    return search_prepared(
        prepared, machine, bound_of(prepared, machine), steps or default_steps(trace)
    )


def search_prepared(prepared: Prepared, machine: Machine, bound: Bound, steps: int) -> Found:
    """The same as `search`, for a trace whose bound is known already."""
    search = _Search(prepared, machine, bound.seconds, steps)
    starts = _starts(Timeline.without_stalls(prepared))
    best = search.attempt(starts[0])
    assert best is not None
    if not bound.excess_bytes:
        return best
    for choice in starts[1:]:
        # Half of the steps are for changes.
        if search.over(best) or search.spent > search.left:
            break
        found = search.attempt(choice)
        if found is not None:
            best = min(best, found, key=_score)
    improved = True
    while improved and not search.over(best):
        improved = False
        for choice in changes(search.problem, best.choice, best.simulation):
            found = search.attempt(choice)
            if found is not None and found.score < best.score:
                best, improved = found, True
            if improved or search.over(best):
                break
    return best


class _Search:
    """Simulates plans and remembers which."""

    def __init__(
        self, prepared: Prepared, machine: Machine, bound_seconds: float, steps: int
    ) -> None:
        self.problem = Problem(prepared, machine)
        self._simulator = Simulator(prepared.trace, machine)
        self._bound_seconds = bound_seconds
        self.left = steps
        self.spent = 0
        # Of plans no more than this is kept: together they would take more memory than all else.
        self._tried: set[bytes] = set()

    def attempt(self, choice: Choice) -> Found | None:
        """Simulates a plan; None if its swaps were tried before."""
        swaps = tuple(schedule(self.problem, choose(self.problem, choice), choice))
        digest = _digest(swaps)
        if digest in self._tried:
            return None
        self._tried.add(digest)
        self.left -= 1
        self.spent += 1
        try:
            simulation = self._simulator.run(swaps)
        except Infeasible:
            # The swaps are in each other's way; without any, the oldest blocks leave.
            swaps = ()
            simulation = self._simulator.run(swaps)
        # The bound adds up the same seconds in another order.
        return Found(choice, swaps, simulation, min(self._bound_seconds, simulation.seconds))

    def over(self, best: Found) -> bool:
        it = best.simulation
        return self.left <= 0 or (not it.misses and it.seconds <= _NEAR * self._bound_seconds)


def _digest(swaps: Iterable[Swap]) -> bytes:
    # By which op a block is needed follows from when it leaves.
    numbers = ((s.block, s.out_after, -1 if s.fetch_at is None else s.fetch_at) for s in swaps)
    packed = array("q", itertools.chain.from_iterable(numbers))
    return hashlib.blake2b(packed.tobytes(), digest_size=16).digest()


def _score(found: Found) -> tuple[int, float, int]:
    return found.score


def _starts(timeline: Timeline) -> list[Choice]:
    return [Choice(timeline, *rules) for rules in STARTS]


def default_steps(trace: Trace) -> int:
    """How many plans of a trace are simulated in about a second."""
    touches = sum(len(op.touches) for op in trace.ops)
    work = 4 * len(trace.ops) + len(trace.changes) + touches
    return min(_MOST_STEPS, max(_FEWEST_STEPS, int((_WORK / max(work, 1)) ** 1.5)))
