"""Which segments are computed again, chosen together with what is swapped."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from swapmem.planner import memory
from swapmem.planner.bounds import bound_of
from swapmem.planner.errors import Infeasible
from swapmem.planner.prepared import prepare
from swapmem.planner.recompute import candidates, with_recompute
from swapmem.planner.swap_search import Found, default_steps, search, search_prepared
from swapmem.planner.trace import Machine, Trace

Recompute = Literal["auto", "never", "always"]

# With less to gain than this over computing everything once, nothing is recomputed.
_WORTH = 1.01


def choose_segments(
    trace: Trace, machine: Machine, recompute: Recompute, steps: int | None = None
) -> tuple[tuple[str, ...], Found]:
    """Chooses what is recomputed, and the swaps that go with it.

    Args:
        trace: one iteration.
        machine: what to plan for.
        recompute: as `swapmem.planner.search.make_plan` has it.
        steps: how many plans are simulated; None for as many as take about a second.

    Returns:
        The names of the segments in the order of forward, and the swaps of the trace with them.
    """
    steps = steps or default_steps(trace)
    order = _cheapest_first(trace) if recompute != "never" else []
    if not order:
        return (), search(trace, machine, steps)
    if recompute == "always":
        chosen = _Sets(trace, machine, order, steps).least_that_fits()
        return chosen, search(with_recompute(trace, chosen), machine, steps)
    swapped = search(trace, machine, max(1, steps // 3))
    it = swapped.simulation
    if not it.misses and it.seconds <= _WORTH * it.compute_seconds:
        return (), swapped
    sets = _Sets(trace, machine, order, steps // 3)
    best: tuple[tuple[str, ...], Found] = ((), swapped)
    for segments in sets.fastest():
        found = sets.search(segments, max(1, steps // 3))
        if found.score_seconds < best[1].score_seconds:
            best = sets.named(segments), found
    return best


def _cheapest_first(trace: Trace) -> list[str]:
    """The names of the segments, those first that save most bytes for the time they take again."""
    seconds: dict[str, float] = defaultdict(float)
    sizes: dict[str, int] = defaultdict(int)
    for segment in candidates(trace):
        seconds[segment.name] += segment.seconds
        sizes[segment.name] += segment.bytes
    return sorted(seconds, key=lambda name: (seconds[name] / sizes[name], name))


class _Sets:
    """Judges sets of segments by their bound and by a few plans, each set once."""

    def __init__(self, trace: Trace, machine: Machine, order: list[str], steps: int) -> None:
        self._trace = trace
        self._machine = machine
        self._order = order
        self._quick_steps = 1 + (steps > 8) + (steps > 32)
        self._left = max(3, steps // self._quick_steps)
        self._seconds: dict[frozenset[str], float] = {}
        self._simulated: list[frozenset[str]] = []

    def least_that_fits(self) -> tuple[str, ...]:
        """The first segments of the order with which everything fits; all of them if none do."""
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            smaller = with_recompute(self._trace, frozenset(self._order[:middle]))
            if memory.peak(smaller) <= self._machine.budget_bytes:
                high = middle
            else:
                low = middle + 1
        return self.named(frozenset(self._order[:low]))

    def fastest(self) -> list[frozenset[str]]:
        """The best sets: a number of first segments of the order, changed by one if that helps."""
        count = len(self._order)
        parts = 8 if self._left > 16 else 3
        counts = sorted({round(count * part / parts) for part in range(1, parts + 1)} - {0})
        best = min((self._judge(self._first(k)), k) for k in counts)[1]
        width = max(1, count // (2 * parts))
        while width and self._left > 0:
            near = [k for k in (best - width, best, best + width) if 0 <= k <= count]
            found = min((self._judge(self._first(k)), k) for k in near)[1]
            width = width if found != best else width // 2
            best = found
        chosen = self._first(best)
        improved = True
        while improved and self._left > 0:
            improved = False
            for name in self._order:
                other = chosen ^ {name}
                if self._left > 0 and self._judge(other) < self._judge(chosen):
                    chosen, improved = other, True
        ranked = sorted(self._simulated, key=lambda names: (self._seconds[names], sorted(names)))
        return ranked[: 1 + (self._quick_steps > 1)]

    def _first(self, count: int) -> frozenset[str]:
        return frozenset(self._order[:count])

    def search(self, chosen: frozenset[str], steps: int) -> Found:
        """Searches longer for the swaps of one of the fastest sets."""
        return search(with_recompute(self._trace, chosen), self._machine, steps)

    def named(self, chosen: frozenset[str]) -> tuple[str, ...]:
        """Its names in the order of forward."""
        return tuple(dict.fromkeys(s.name for s in candidates(self._trace) if s.name in chosen))

    def _judge(self, chosen: frozenset[str]) -> float:
        """Seconds of an iteration with these recomputed; of the bound where it says enough."""
        if chosen not in self._seconds:
            self._left -= 1
            least = min(self._seconds.values(), default=float("inf"))
            prepared = prepare(with_recompute(self._trace, chosen))
            bound = bound_of(prepared, self._machine)
            seconds = bound.seconds
            if seconds < least:
                try:
                    found = search_prepared(prepared, self._machine, bound, self._quick_steps)
                    seconds = found.score_seconds
                    self._simulated.append(chosen)
                except Infeasible:
                    # What runs again needs more at one time than what ran once.
                    seconds = float("inf")
            self._seconds[chosen] = seconds
        return self._seconds[chosen]
