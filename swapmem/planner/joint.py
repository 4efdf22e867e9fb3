"""Which segments are computed again, chosen together with what is swapped."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from swapmem.planner import memory
from swapmem.planner.bounds import bound_of
from swapmem.planner.errors import Infeasible
from swapmem.planner.prepared import Prepared, prepare
from swapmem.planner.recompute import Segment, candidates, with_segments
from swapmem.planner.swap_search import Found, Search, default_steps
from swapmem.planner.trace import Machine, Trace

Recompute = Literal["auto", "never", "always"]

# With less to gain than this over computing everything once, nothing is recomputed.
_WORTH = 1.01


@dataclass(frozen=True)
class Chosen:
    """What is recomputed, and the swaps that go with it.

    Attributes:
        segments: in the order of forward.
        prepared: the trace with these.
        found: the swaps of that trace.
    """

    segments: tuple[Segment, ...]
    prepared: Prepared
    found: Found


def choose_segments(
    trace: Trace, machine: Machine, recompute: Recompute, steps: int | None = None
) -> Chosen:
    """Chooses what is recomputed, and the swaps that go with it.

    Args:
        trace: one iteration.
        machine: what to plan for.
        recompute: as `swapmem.planner.search.make_plan` has it.
        steps: how many plans are simulated; None for as many as take about a second.

    Returns:
        The segments, and the swaps of the trace with them.
    """
    steps = steps or default_steps(trace)
    segments = candidates(trace) if recompute != "never" else ()
    if recompute == "always":
        segments = _least_that_fits(trace, machine, segments)
        search = Search(prepare(with_segments(trace, segments)), machine)
        return Chosen(segments, search.prepared, search.run(steps))
    search = Search(prepare(trace), machine)
    swapped = search.run(max(1, steps // 3) if segments else steps)
    best = Chosen((), search.prepared, swapped)
    it = swapped.simulation
    if not segments or (not it.misses and it.seconds <= _WORTH * it.compute_seconds):
        return best
    sets = _Sets(trace, machine, segments, steps // 3)
    for chosen in sets.fastest():
        search = sets.searches[chosen]
        found = search.run(max(1, steps // 3))
        if found.score_seconds < best.found.score_seconds:
            best = Chosen(sets.segments(chosen), search.prepared, found)
    return best


def _cheapest_first(segments: tuple[Segment, ...]) -> list[str]:
    """The names of the segments, those first that save most bytes for the time they take again."""
    seconds: dict[str, float] = defaultdict(float)
    sizes: dict[str, int] = defaultdict(int)
    for segment in segments:
        seconds[segment.name] += segment.seconds
        sizes[segment.name] += segment.bytes
    return sorted(seconds, key=lambda name: (seconds[name] / sizes[name], name))


def _named(segments: tuple[Segment, ...], names: frozenset[str]) -> tuple[Segment, ...]:
    return tuple(segment for segment in segments if segment.name in names)


def _least_that_fits(
    trace: Trace, machine: Machine, segments: tuple[Segment, ...]
) -> tuple[Segment, ...]:
    """The cheapest segments with which everything fits; all of them if it never does."""
    order = _cheapest_first(segments)
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        smaller = with_segments(trace, _named(segments, frozenset(order[:middle])))
        if memory.peak(smaller) <= machine.budget_bytes:
            high = middle
        else:
            low = middle + 1
    return _named(segments, frozenset(order[:low]))


class _Sets:
    """Judges sets of segments by their bound and by a few plans, each set once.

    Attributes:
        searches: of the fastest sets, to be gone on with.
    """

    def __init__(
        self, trace: Trace, machine: Machine, segments: tuple[Segment, ...], steps: int
    ) -> None:
        self._trace = trace
        self._machine = machine
        self._segments = segments
        self._order = _cheapest_first(segments)
        self._quick_steps = 1 + (steps > 8) + (steps > 32)
        self._left = max(3, steps // self._quick_steps)
        self._seconds: dict[frozenset[str], float] = {}
        self.searches: dict[frozenset[str], Search] = {}

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
        return self._ranked()

    def segments(self, chosen: frozenset[str]) -> tuple[Segment, ...]:
        """Those of a set in the order of forward."""
        return _named(self._segments, chosen)

    def _ranked(self) -> list[frozenset[str]]:
        return sorted(self.searches, key=lambda names: (self._seconds[names], sorted(names)))

    def _first(self, count: int) -> frozenset[str]:
        return frozenset(self._order[:count])

    def _judge(self, chosen: frozenset[str]) -> float:
        """Seconds of an iteration with these recomputed; of the bound where it says enough."""
        if chosen not in self._seconds:
            self._left -= 1
            least = min(self._seconds.values(), default=float("inf"))
            prepared = prepare(with_segments(self._trace, self.segments(chosen)))
            bound = bound_of(prepared, self._machine)
            seconds = bound.seconds
            if seconds < least:
                seconds = self._simulated(chosen, Search(prepared, self._machine, bound))
            self._seconds[chosen] = seconds
        return self._seconds[chosen]

    def _simulated(self, chosen: frozenset[str], search: Search) -> float:
        try:
            found = search.run(self._quick_steps)
        except Infeasible:
            # What runs again needs more at one time than what ran once.
            return float("inf")
        self._seconds[chosen] = found.score_seconds
        self.searches[chosen] = search
        for other in self._ranked()[1 + (self._quick_steps > 1) :]:
            del self.searches[other]
        return found.score_seconds
