"""Makes a plan: several ways to start, then changes where it stalls, each one simulated.

Everything is counted in steps, never in seconds: the same trace gives the same plan everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swapmem.planner import preflight
from swapmem.planner.bounds import lower_bound
from swapmem.planner.cover import choose
from swapmem.planner.fetches import schedule
from swapmem.planner.improve import changes
from swapmem.planner.plan import Plan, Swap
from swapmem.planner.reasons import explain
from swapmem.planner.selection import ORDERS, Choice, Problem, Timeline
from swapmem.planner.simulate import Simulation, Simulator
from swapmem.planner.trace import Machine, Trace

Recompute = Literal["auto", "never", "always"]

# A simulation's work grows with the trace: this much of it is done in about a second.
_WORK = 400_000
_FEWEST_STEPS, _MOST_STEPS = 16, 240
# Nearer to the bound than this nothing is gained that could be measured.
_NEAR = 1.0005


@dataclass(frozen=True)
class Found:
    """A set of swaps and what it takes.

    Attributes:
        choice: what it was made from.
        swaps: in the order of a plan.
        simulation: of an iteration with them.
    """

    choice: Choice
    swaps: tuple[Swap, ...]
    simulation: Simulation

    @property
    def score(self) -> tuple[int, float, int]:
        """The less, the better. What differs by less than a ten-thousandth moves fewer bytes."""
        it = self.simulation
        seconds = round(it.seconds / max(it.compute_seconds, 1e-12), 4)
        return (it.misses, seconds, it.out_bytes + it.in_bytes)


def make_plan(
    trace: Trace,
    machine: Machine | None = None,
    recompute: Recompute = "auto",
    steps: int | None = None,
) -> Plan:
    """Decides for each block whether it is kept, swapped or recomputed, and when.

    Args:
        trace: one iteration.
        machine: what to plan for; None for the machine on which the trace was recorded.
        recompute: "auto" recomputes segments where that is faster than swapping them, "never" only
            swaps, "always" recomputes as long as that helps the budget, and swaps what then still
            does not fit.
        steps: how many plans are simulated; None for as many as take about a second.

    Returns:
        The plan. Its swaps name blocks and ops of the trace with the recomputed segments, which is
        the trace itself where nothing is recomputed; its reasons are those of the trace's blocks.

    Raises:
        Infeasible: no plan exists; names the op, what it needs and the smallest budget that works.

    Example:
        >>> plan = make_plan(trace, replace(trace.machine, budget_bytes=8 << 30))
        >>> plan.seconds / plan.bound_seconds
        1.01
    """
    machine = machine or trace.machine
    preflight.check(trace, machine.budget_bytes)
    found, bound_seconds = swaps_for(trace, machine, steps)
    return _plan(trace, found, bound_seconds, machine)


def swaps_for(trace: Trace, machine: Machine, steps: int | None = None) -> tuple[Found, float]:
    """Searches for the best swaps without recomputing anything.

    Args:
        trace: one iteration.
        machine: what to plan for.
        steps: how many plans are simulated at most.

    Returns:
        The best ones found, and the bound in seconds.
    """
    bound = lower_bound(trace, machine)
    problem = Problem(trace, machine)
    simulator = Simulator(trace, machine)
    left = steps or _steps(trace)
    starts = _starts(Timeline.without_stalls(trace))
    tried: set[tuple[Swap, ...]] = set()

    def attempt(choice: Choice) -> Found | None:
        nonlocal left
        swaps = tuple(schedule(problem, choose(problem, choice), choice))
        if swaps in tried:
            return None
        tried.add(swaps)
        left -= 1
        return Found(choice, swaps, simulator.run(swaps))

    swaps = tuple(schedule(problem, choose(problem, starts[0]), starts[0]))
    best = Found(starts[0], swaps, simulator.run(swaps))
    if not bound.excess_bytes:
        return best, bound.seconds

    def near() -> bool:
        return not best.simulation.misses and best.simulation.seconds <= _NEAR * bound.seconds

    for choice in starts[1:]:
        if left <= 0 or near():
            break
        found = attempt(choice)
        if found is not None and found.score < best.score:
            best = found
    improved = True
    while improved and left > 0 and not near():
        improved = False
        for choice in changes(problem, best.choice, best.simulation):
            if left <= 0:
                break
            found = attempt(choice)
            if found is not None and found.score < best.score:
                best = found
                improved = True
                break
    return best, bound.seconds


def _starts(timeline: Timeline) -> list[Choice]:
    return [
        Choice(timeline, order, stretch, lead, thrifty)
        for stretch, lead in ((1.0, 2.0), (1.0, 0.5), (1.5, 2.0), (2.5, 4.0))
        for thrifty in (False, True)
        for order in ORDERS
    ]


def _steps(trace: Trace) -> int:
    touches = sum(len(op.touches) for op in trace.ops)
    work = 4 * len(trace.ops) + len(trace.changes) + touches
    return min(_MOST_STEPS, max(_FEWEST_STEPS, _WORK // max(work, 1)))


def _plan(trace: Trace, found: Found, bound_seconds: float, machine: Machine) -> Plan:
    it = found.simulation
    return Plan(
        swaps=found.swaps,
        recomputed=(),
        reasons=explain(trace, machine, found.swaps, it),
        seconds=it.seconds,
        compute_seconds=it.compute_seconds,
        bound_seconds=bound_seconds,
        peak_bytes=it.peak_bytes,
        out_bytes=it.out_bytes,
        in_bytes=it.in_bytes,
    )
