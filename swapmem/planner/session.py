"""When to plan: watches a manager's iterations, makes a plan and gives it to the engine.

The first iteration is observed. What it did is planned before the second begins, and planned again
when the second, which finds gradients and the optimizer's state in place, has shown how it really
goes. From then on iterations are only counted, until one does not run as planned.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from swapmem.planner import memory, rates
from swapmem.planner.errors import PlanError
from swapmem.planner.execute import instructions
from swapmem.planner.joint import Recompute
from swapmem.planner.plan import Plan
from swapmem.planner.record import Birth, Recorded, as_next, read
from swapmem.planner.search import make_plan
from swapmem.planner.simulate import simulate
from swapmem.planner.trace import Machine, Rates, Trace
from swapmem.sizes import format_bytes

if TYPE_CHECKING:
    from swapmem._core import Engine

# With so much of the budget in use the engine begins to copy ahead of need, unless a plan says that
# there is none.
_AMPLE = 7 / 8
# An iteration that waits for less than this part of its time is as good as it gets.
_STALL_SHARE = 0.01
# How often a plan is made anew because of its stalls, and because an iteration was unlike the one
# before.
_MOST_REFINEMENTS = 3
_MOST_CHANGES = 8
_SURPRISES: tuple[str, ...] = ("faults", "unplanned_evictions", "plan_misses")
_RECOMPUTE: dict[str, Recompute] = {"auto": "auto", "swap": "never", "recompute": "always"}
MODES = (*_RECOMPUTE, "none")
# So much has to be copied each way before a rate is believed.
_TELLING_BYTES = 32 << 20
# A plan that stalls was too hopeful about the link.
_CAUTION = 0.9


@dataclass(frozen=True)
class Outcome:
    """How one iteration went.

    Attributes:
        seconds: its time.
        stall_seconds: of which it waited.
        surprises: faults, evictions that were not planned, and ops that were not expected.
        rates: what the link reached while ops ran; None if too little was copied to tell.
    """

    seconds: float
    stall_seconds: float
    surprises: int
    rates: Rates | None


class Session:
    """The plans of one manager.

    Args:
        engine: the manager's engine.
        device: "host" or "cuda:N".
        budget_bytes: the engine's budget.
        current_stream: returns the current stream of the calling thread.
        choose: has parts of the model recomputed from the next iteration on, by their names.
        mode: "swap" and "recompute" do that alone (what is too large even then is swapped), "auto"
            what is faster, "none" plans nothing.

    Attributes:
        plan: the present plan; None while there is none.
        notices: why nothing is planned, if so.

    Example:
        >>> session = Session(memory.engine, "host", budget_bytes)  # doctest: +SKIP
        >>> session.first_iteration(trains=True)  # doctest: +SKIP
        >>> session.op_begins(None)  # before each Engine.begin_op  # doctest: +SKIP
        >>> session.begin_iteration(trains=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        engine: Engine,
        device: str,
        budget_bytes: int,
        current_stream: Callable[[], int] = lambda: 0,
        choose: Callable[[Collection[str]], None] = lambda names: None,
        mode: str = "auto",
    ) -> None:
        self._engine = engine
        self._device = device
        self._budget_bytes = budget_bytes
        self._current_stream = current_stream
        self._choose = choose
        self._recompute = _RECOMPUTE.get(mode)
        self._recomputed: tuple[str, ...] | None = None
        self._chosen_late = False
        self._rates: Rates | None = None
        self._caution = 1.0
        self._segments: list[str | None] = []
        self._trains = False
        self._begun_seconds = 0.0
        self._before: dict[str, Any] = {}
        self._survivors: dict[int, Birth] = {}
        self._settled = False
        self._is_first = True
        self._is_new = False
        self._refinements = 0
        self._changes = 0
        self._gave_up = False
        self._doubts = 0
        self._best: tuple[float, Recorded, Plan] | None = None
        self._recorded: Recorded | None = None
        self.plan: Plan | None = None
        self.notices: list[str] = []

    def begin_iteration(self, trains: bool) -> None:
        """Ends the iteration that ran and begins the next.

        Args:
            trains: whether the next one has a backward pass.

        Raises:
            StoreError: the rates had to be measured, and a copy failed.
        """
        self._engine.begin_iteration()
        if self._recompute is None:
            return
        ended, segments = self._trains, self._segments
        self._segments = []
        self._trains = trains
        if ended:
            outcome = self._outcome()
            if not self._settled:
                # What the planner allocates is its own: NumPy's handler is a context variable.
                contextvars.Context().run(self._learn, outcome, segments)
            else:
                self._watch(outcome)
        if trains and self.plan is not None:
            self._engine.follow_plan()
        self._start_counting()

    def _start_counting(self) -> None:
        self._before = self._engine.stats()
        self._begun_seconds = time.perf_counter()

    def first_iteration(self, trains: bool) -> None:
        """Says of what kind the iteration is that begins with the first op."""
        if self._recompute is not None:
            self._trains = trains
            self._start_counting()

    def end(self) -> None:
        """Leaves the model as it was: nothing is recomputed any more."""
        if self._recomputed:
            self._choose(())

    def op_begins(self, segment: str | None) -> None:
        """Notes the part of the model that the next op belongs to."""
        self._segments.append(segment)

    def _outcome(self) -> Outcome:
        now, before = self._engine.stats(), self._before
        keys = _SURPRISES if self.plan is not None else ("swap_out_count",)
        return Outcome(
            seconds=time.perf_counter() - self._begun_seconds,
            stall_seconds=now["stall_seconds"] - before["stall_seconds"],
            surprises=sum(now[key] - before[key] for key in keys),
            rates=_reached(before, now),
        )

    def _watch(self, outcome: Outcome) -> None:
        """Plans anew when iterations go on to run otherwise; a single one, a short batch, may."""
        self._doubts = self._doubts + 1 if outcome.surprises else 0
        if self._doubts < 2 or self._gave_up:
            return
        self._doubts = 0
        self._settled = False
        self._best = None
        self._refinements = 0
        self._decide_on(None)

    def _learn(self, outcome: Outcome, segments: list[str | None]) -> None:
        try:
            recorded = self._read(segments)
        except ValueError:
            return
        self._survivors = recorded.survivors()
        if self._chosen_late:
            # The iteration had begun when the segments were chosen: its first did not know.
            self._chosen_late = False
            return
        if self._is_first:
            self._is_first = False
            recorded = as_next(recorded)
        if memory.peak(recorded.trace) <= self._budget_bytes * _AMPLE:
            self.plan = None  # nothing has to leave
            self._settled = True
            return
        given = self._recorded
        if self.plan is not None and given is not None and _alike(given.trace, recorded.trace):
            if self._is_new:
                # It began as the plan before had left it.
                self._is_new = False
                return
            if self._best is None or outcome.seconds < self._best[0]:
                self._best = outcome.seconds, given, self.plan
            if not outcome.surprises and outcome.stall_seconds <= _STALL_SHARE * outcome.seconds:
                self._settle()
                return
            if self._refinements == _MOST_REFINEMENTS:
                self._settle()
                return
            self._refinements += 1
            self._rates = outcome.rates or self._rates
            if outcome.stall_seconds > _STALL_SHARE * outcome.seconds:
                self._caution *= _CAUTION
        elif given is not None:
            self._changes += 1
            self._best = None
            self._refinements = 0
            if self._changes > _MOST_CHANGES:
                self._give_up()
                return
        self._make_plan(recorded)

    def _give_up(self) -> None:
        self.plan = None
        self._settled = self._gave_up = True
        self._decide_on(None)
        self.notices[:] = [
            "not planned: iterations differ from one another; the least recently used leave"
        ]

    def _settle(self) -> None:
        """Keeps the best plan there was."""
        self._settled = True
        if self._best is None:
            return
        _, recorded, plan = self._best
        if plan is not self.plan:
            self._give(recorded, plan)

    def _read(self, segments: list[str | None]) -> Recorded:
        return read(
            self._engine.last_iteration(),
            Machine(self._budget_bytes, self._rates or _NO_RATES),
            self._device,
            self._survivors,
            segments,
            sees_writes=self._device == "host",
        )

    def _make_plan(self, recorded: Recorded) -> None:
        exceeds = memory.peak(recorded.trace) > self._budget_bytes
        if self._rates is None and exceeds:
            self._rates = rates.measure(
                self._engine, self._budget_bytes, self._current_stream(), self._device
            )
        machine = Machine(self._budget_bytes, self._rates or _NO_RATES)
        trace = replace(recorded.trace, machine=machine)
        recorded = replace(recorded, trace=trace)
        recompute = "never" if self._recomputed is not None else self._recompute
        assert recompute is not None
        try:
            plan = make_plan(trace, _slower(machine, self._caution), recompute=recompute)
        except PlanError as error:
            self.plan = None
            self._settled = True
            self.notices[:] = [f"not planned: {error}"]
            return
        self._decide_on(self._recomputed or plan.recomputed)
        if plan.recomputed:
            # What an iteration does with these segments recomputed is seen before it is planned.
            self.plan = None
        else:
            self._give(recorded, plan)

    def _decide_on(self, names: tuple[str, ...] | None) -> None:
        """Has these segments recomputed; None has none and leaves the choice open."""
        if (names or ()) != (self._recomputed or ()):
            self._choose(names or ())
            self._chosen_late = True
        self._recomputed = names

    def _give(self, recorded: Recorded, plan: Plan) -> None:
        self._recorded, self.plan = recorded, plan
        self._is_new = True
        self._engine.set_plan(*instructions(recorded, plan))

    def run_parts(self) -> dict[str, Any]:
        """What a run file says of the plan: trace, plan, simulation and the ids of the blocks."""
        recorded, plan = self._recorded, self.plan
        if recorded is None or plan is None:
            return {}
        return {
            "trace": recorded.trace,
            "plan": plan,
            "simulation": simulate(recorded.trace, plan.swaps),
            "block_ids": [identity for _, identity in recorded.identities],
        }

    def report_lines(self) -> list[str]:
        """What the report says about the plan."""
        lines = list(self.notices)
        if self._recomputed:
            lines.insert(0, f"recomputed in backward: {', '.join(self._recomputed)}")
        if self.plan is not None:
            plan = self.plan
            lines.insert(
                0,
                f"plan: {len(plan.swaps)} swaps, {format_bytes(plan.out_bytes)} out and "
                f"{format_bytes(plan.in_bytes)} in an iteration, {plan.seconds:.3g} s foreseen "
                f"({plan.seconds / plan.compute_seconds:.2f} of the ops' own time, "
                f"{plan.seconds / plan.bound_seconds:.2f} of the bound)",
            )
        return lines


def _alike(one: Trace, other: Trace) -> bool:
    """Whether a plan for one iteration is one for the other."""
    return _shape(one) == _shape(other)


def _shape(trace: Trace) -> tuple[list[str], list[int], list[tuple[int, int]]]:
    # What is there at the begin stands in the order of its addresses, which may be any.
    there = sorted(block.bytes for block in trace.blocks if block.born is None)
    made = [(block.bytes, block.born) for block in trace.blocks if block.born is not None]
    return [op.name for op in trace.ops], there, made


def _reached(before: dict[str, Any], now: dict[str, Any]) -> Rates | None:
    rate = {}
    for way in ("out", "in"):
        moved = now[f"swap_{way}_bytes"] - before[f"swap_{way}_bytes"]
        busy_seconds = now[f"swap_{way}_busy_seconds"] - before[f"swap_{way}_busy_seconds"]
        if moved < _TELLING_BYTES or busy_seconds <= 0:
            return None
        rate[way] = moved / busy_seconds
    return Rates(rate["out"], rate["in"], rate["out"], rate["in"])


_NO_RATES = Rates(1e9, 1e9, 1e9, 1e9)


def _slower(machine: Machine, factor: float) -> Machine:
    link = machine.link
    return replace(
        machine,
        link=replace(
            link,
            out_bytes_per_second=link.out_bytes_per_second * factor,
            in_bytes_per_second=link.in_bytes_per_second * factor,
            duplex_out_bytes_per_second=link.duplex_out_bytes_per_second * factor,
            duplex_in_bytes_per_second=link.duplex_in_bytes_per_second * factor,
        ),
    )
