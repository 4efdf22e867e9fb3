"""Which segments are computed again, chosen together with what is swapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from swapmem.planner import memory
from swapmem.planner.bounds import bound_of
from swapmem.planner.errors import Infeasible
from swapmem.planner.levels import Levels
from swapmem.planner.prepared import Prepared, prepare
from swapmem.planner.recompute import Segment, candidates, with_segments
from swapmem.planner.rough import rough_count
from swapmem.planner.swap_search import Found, Search, default_steps
from swapmem.planner.trace import Machine, Trace

Recompute = Literal["auto", "never", "always"]

# With less to gain than this over computing everything once, nothing is recomputed.
_WORTH = 1.01
# So far above the bound it is worth as much work again to look for a better set.
_FAR = 1.05


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
        steps: how many plans are simulated; None for as many as take about a second, and as many
            again where the best one is far above its bound.

    Returns:
        The segments, and the swaps of the trace with them.
    """
    given, steps = steps, steps or default_steps(trace)
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
    sets = _Sets(search.prepared, machine, segments, steps // 3)
    best = _better(best, sets, sets.fastest(), steps)
    if given is None and best.found.score_seconds > _FAR * best.found.bound_seconds:
        best = _better(best, sets, sets.further(), steps)
    return best


def _better(best: Chosen, sets: _Sets, fastest: list[frozenset[str]], steps: int) -> Chosen:
    """The best choice, once the searches for the fastest sets have gone on."""
    for chosen in fastest:
        search = sets.searches[chosen]
        found = search.run(max(1, steps // 3))
        if found.score_seconds < best.found.score_seconds:
            best = Chosen(sets.segments(chosen), search.prepared, found)
    return best


def _least_that_fits(
    trace: Trace, machine: Machine, segments: tuple[Segment, ...]
) -> tuple[Segment, ...]:
    """The cheapest segments with which everything fits; those that save most if it never does.

    Those with others within are divided only where it takes that.
    """
    levels = Levels(segments)
    divisible = len(levels.divisible)
    best: tuple[int, tuple[Segment, ...]] | None = None
    for divided in dict.fromkeys((0, divisible // 2, divisible)):
        peak, found = _fewest(trace, machine, levels, divided)
        if best is None or peak < best[0]:
            best = peak, found
        if peak <= machine.budget_bytes:
            break
    assert best is not None
    return best[1]


def _fewest(
    trace: Trace, machine: Machine, levels: Levels, divided: int
) -> tuple[int, tuple[Segment, ...]]:
    """As few of the first names as fit; all if they never do. Their peak in bytes, and they."""

    def peak_with(count: int) -> int:
        return memory.peak(with_segments(trace, levels.segments(levels.first(count, divided))))

    low, high = 0, len(levels.names)
    while low < high:
        middle = (low + high) // 2
        if peak_with(middle) <= machine.budget_bytes:
            high = middle
        else:
            low = middle + 1
    return peak_with(low), levels.segments(levels.first(low, divided))


class _Sets:
    """Judges sets of segments by their bound and by a few plans, each set once.

    Attributes:
        searches: of the fastest sets, to be gone on with.
    """

    def __init__(
        self, prepared: Prepared, machine: Machine, segments: tuple[Segment, ...], steps: int
    ) -> None:
        self._prepared = prepared
        self._machine = machine
        self._levels = Levels(segments)
        self._quick_steps = 1 + (steps > 8) + (steps > 32)
        self._most = self._left = max(3, steps // self._quick_steps)
        self._seconds: dict[frozenset[str], float] = {}
        self.searches: dict[frozenset[str], Search] = {}

    def fastest(self) -> list[frozenset[str]]:
        """The best sets: some of the cheapest, some of these divided, then changed one by one."""
        return self._changed(self._nested() if self._levels.divisible else self._flat())

    def further(self) -> list[frozenset[str]]:
        """The best sets once the best one was changed further; none where none was found."""
        self._left = self._most
        return self._changed(self._ranked()[0]) if self.searches else []

    def _changed(self, chosen: frozenset[str]) -> list[frozenset[str]]:
        improved = True
        while improved and self._left > 0:
            improved = False
            for name in self._levels.by_size:
                for other in self._levels.changed(chosen, name):
                    if self._left > 0 and self._judge(other) < self._judge(chosen):
                        chosen, improved = other, True
        return self._ranked()

    def _flat(self) -> frozenset[str]:
        levels = self._levels
        return levels.first(self._best_of(len(levels.names), 1, levels.first))

    def _nested(self) -> frozenset[str]:
        """How many of the cheapest, then how many divided: there is less time for each question."""
        levels = self._levels
        self._left = half = self._left // 2 + 1
        most = len(levels.names)
        begin = rough_count(self._prepared, self._machine, levels)
        count = self._best_near(begin, most // 16, most, levels.first)
        self._left += half
        first = partial(levels.first, count)
        return first(self._best_of(len(levels.divisible), 0, first))

    def segments(self, chosen: frozenset[str]) -> tuple[Segment, ...]:
        """Those of a set in the order of forward."""
        return self._levels.segments(chosen)

    def _best_of(self, most: int, least: int, make: Callable[[int], frozenset[str]]) -> int:
        """The number, up to `most`, that makes the best set: tried in steps, then nearby."""
        parts = 8 if self._left > 16 else 3
        numbers = {round(most * part / parts) for part in range(parts + 1)}
        best = min((self._judge(make(k)), k) for k in sorted(numbers) if k >= least)[1]
        return self._best_near(best, most // (2 * parts), most, make)

    def _best_near(
        self, best: int, width: int, most: int, make: Callable[[int], frozenset[str]]
    ) -> int:
        """The number, found from `best` on in steps that become smaller."""
        width = max(1, width)
        while width and self._left > 0:
            near = [k for k in (best - width, best, best + width) if 0 <= k <= most]
            found = min((self._judge(make(k)), k) for k in near)[1]
            width = width if found != best else width // 2
            best = found
        return best

    def _ranked(self) -> list[frozenset[str]]:
        return sorted(self.searches, key=lambda names: (self._seconds[names], sorted(names)))

    def _judge(self, chosen: frozenset[str]) -> float:
        """Seconds of an iteration with these recomputed; of the bound where it says enough."""
        if chosen not in self._seconds:
            self._left -= 1
            least = min(self._seconds.values(), default=float("inf"))
            prepared = prepare(with_segments(self._prepared.trace, self.segments(chosen)))
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
