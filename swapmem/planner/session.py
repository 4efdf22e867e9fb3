"""When to plan: watches a manager's iterations, makes a plan and gives it to the engine.

The first iteration is observed. What it did is planned before the second begins, and planned again
when the second, which finds gradients and the optimizer's state in place, has shown how it really
goes. From then on iterations are only counted, until one does not run as planned.

Where iterations of several kinds take turns, all of them together, a *round*, are what is observed
and planned: to the engine a round is one iteration.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swapmem.planner import memory, rates
from swapmem.planner.errors import PlanError
from swapmem.planner.execute import instructions
from swapmem.planner.joint import Recompute
from swapmem.planner.outcome import Outcome, outcome_of
from swapmem.planner.plan import Plan
from swapmem.planner.record import Birth, Recorded, as_next, read
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.rhythm import MOST_ITERATIONS, Rhythm, kind_of, ops_of
from swapmem.planner.search import make_plan
from swapmem.planner.simulate import Simulation, simulate
from swapmem.planner.trace import Machine, Rates

if TYPE_CHECKING:
    from swapmem._core import Engine

# With so much of the budget in use the engine begins to copy ahead of need, unless a plan says that
# there is none.
_AMPLE = 7 / 8
# To wait for longer than foretold by no more than this part of an iteration is as good as it gets.
_STALL_SHARE = 0.01
# A short batch may surprise twice: its arrays may be made in the iteration before.
_DOUBTS = 3
# How often a plan is made anew because of its stalls, and because an iteration was unlike the one
# before.
_MOST_REFINEMENTS, _MOST_CHANGES = 3, 2 * MOST_ITERATIONS
_RECOMPUTE: dict[str, Recompute] = {"auto": "auto", "swap": "never", "recompute": "always"}
MODES = (*_RECOMPUTE, "none")
# A plan that stalls was too hopeful about the link.
_CAUTION = 0.9


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
        plan: the present plan, of an iteration or of a round of them; None while there is none.
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
        self._only_watches = False
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
        self._rhythm = Rhythm()
        self._kind: Hashable = None
        self._evaluations = 0
        self._is_short = False
        self._round_length = 1
        self._place = 0
        self._recorded: Recorded | None = None
        self._foretold: tuple[Plan, Simulation] | None = None
        self.plan: Plan | None = None
        self.notices: list[str] = []

    def begin_iteration(self, trains: bool) -> None:
        """Ends the iteration that ran and begins the next.

        Args:
            trains: whether the next one has a backward pass.

        Raises:
            StoreError: the rates had to be measured, and a copy failed.
        """
        self._place += 1
        if self._place < self._round_length:
            return  # the round goes on, and the engine's iteration with it
        self._place = 0
        self._engine.begin_iteration()
        if self._recompute is None:
            return
        planned = self._trains or self._round_length > 1
        segments, self._segments = self._segments, []
        self._trains = trains
        # What the planner allocates is its own: NumPy's handler is a context variable.
        contextvars.Context().run(self._ended, planned, segments)
        if self.plan is not None and (trains or self._round_length > 1):
            self._engine.follow_plan()
        self._start_counting()

    def _ended(self, planned: bool, segments: list[str | None]) -> None:
        outcome = outcome_of(
            self._before,
            self._engine.stats(),
            time.perf_counter() - self._begun_seconds,
            followed=self.plan is not None,
        )
        if not planned:
            self._evaluated(segments)
        elif self._settled:
            self._watch(outcome, segments)
        else:
            self._learn(outcome, segments)

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
        if self._recompute is not None:
            self._segments.append(segment)

    def _evaluated(self, segments: list[str | None]) -> None:
        """An iteration without a backward pass has no plan of its own; it may be in a round."""
        if self._gave_up or self._evaluations == _MOST_CHANGES:
            return
        self._evaluations += 1
        recorded = self._read(segments)
        if recorded is not None:
            self._note(kind_of(recorded.trace))

    def _note(self, kind: Hashable) -> bool:
        """Notes of what kind the iteration was that ended; whether a round begins now."""
        self._rhythm.note(kind)
        if self._is_short:
            self._round_length = self._rhythm.period()
        if self._round_length > 1:
            self._learn_anew()
        return self._round_length > 1

    def _learn_anew(self) -> None:
        """Forgets what was found out of the iterations so far."""
        self.plan = self._recorded = None
        self._settled = False
        self._judge_anew()
        # What it finds was made in iterations of another kind.
        self._only_watches = True
        self._survivors = {}
        self._decide_on(None)

    def _judge_anew(self) -> None:
        self._best = None
        self._refinements = 0

    def _watch(self, outcome: Outcome, segments: list[str | None]) -> None:
        """Plans anew when iterations go on to run otherwise; a single one, a short batch, may."""
        if self._gave_up:
            return
        kind = self._kind
        if outcome.surprises:
            self._is_short = True
            recorded = self._read(segments)
            kind = None if recorded is None else kind_of(recorded.trace)
        if self._round_length == 1 and self._note(kind):
            return
        self._doubts = self._doubts + 1 if outcome.surprises else 0
        if self._doubts < _DOUBTS:
            return
        self._doubts = 0
        if self._round_length > 1:
            # They do not take turns any more, or begin somewhere else.
            self._leave_round()
            return
        if self._changed():
            return
        self._settled = False
        self._judge_anew()
        self._decide_on(None)

    def _leave_round(self) -> None:
        length, self._round_length = self._round_length, 1
        self._rhythm.forget()
        self._learn_anew()
        self._changed(length)

    def _changed(self, count: int = 1) -> bool:
        """Counts that iterations are not what they were; whether that was once too often."""
        self._changes += count
        if self._changes > _MOST_CHANGES:
            self._give_up()
        return self._gave_up

    def _learn(self, outcome: Outcome, segments: list[str | None]) -> None:
        recorded = self._read(segments)
        if recorded is None:
            return
        self._survivors = recorded.survivors()
        if self._only_watches:
            # It had begun when the segments were chosen, or before a round did.
            self._only_watches = False
            return
        if self._is_first:
            self._is_first, recorded = False, as_next(recorded)
        kind = kind_of(recorded.trace)
        fits = memory.peak(recorded.trace) <= self._budget_bytes * _AMPLE
        self._is_short |= not fits
        if self._round_length == 1 and self._note(kind):
            return
        # The copies of the first one, which knew no plan, ran beside its ops as well.
        self._rates = self._rates or outcome.rates
        if fits:
            self.plan = None  # nothing has to leave
            self._settled, self._kind = True, kind
            return
        if self._recorded is None:
            self._make_plan(recorded)
        elif self.plan is not None and kind == self._kind:
            self._refine(outcome, recorded)
        else:
            self._plan_change(recorded)

    def _refine(self, outcome: Outcome, recorded: Recorded) -> None:
        """The iteration ran with the plan that was made for its kind."""
        if self._is_new:
            # It began as the plan before had left it.
            self._is_new = False
            return
        given, plan = self._recorded, self.plan
        assert given is not None
        assert plan is not None
        if self._best is None or outcome.seconds < self._best[0]:
            self._best = outcome.seconds, given, plan
        foretold = plan.seconds - plan.compute_seconds
        stalls = recorded.stall_seconds > foretold + _STALL_SHARE * outcome.seconds
        if self._refinements == _MOST_REFINEMENTS or not (outcome.surprises or stalls):
            self._settle()
            return
        self._refinements += 1
        self._rates = outcome.rates or self._rates
        if stalls:
            self._caution *= _CAUTION
        self._make_plan(recorded)

    def _plan_change(self, recorded: Recorded) -> None:
        """The iteration was not of the kind of the one that was planned."""
        given = self._recorded
        assert given is not None
        self._judge_anew()
        if self._round_length > 1:
            self._leave_round()
            return
        # What looks quite different is planned when it is there twice: it may take turns.
        likely = self._rhythm.repeats or ops_of(recorded.trace) == ops_of(given.trace)
        if not self._changed() and likely:
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
        if self._best is not None and self._best[2] is not self.plan:
            self._give(*self._best[1:])

    def _read(self, segments: list[str | None]) -> Recorded | None:
        """What the engine noted of the iteration that ended; None if it was no complete one."""
        try:
            return read(
                self._engine.last_iteration(),
                Machine(self._budget_bytes, self._rates or rates.UNKNOWN),
                self._device,
                self._survivors,
                segments,
                sees_writes=self._device == "host",
            )
        except ValueError:
            return None

    def _make_plan(self, recorded: Recorded) -> None:
        exceeds = memory.peak(recorded.trace) > self._budget_bytes
        if self._rates is None and exceeds:
            self._rates = rates.measure(
                self._engine, self._budget_bytes, self._current_stream(), self._device
            )
        machine = Machine(self._budget_bytes, self._rates or rates.UNKNOWN)
        trace = replace(recorded.trace, machine=machine)
        recorded = replace(recorded, trace=trace)
        recompute = "never" if self._recomputed is not None else self._recompute
        assert recompute is not None
        try:
            plan = make_plan(trace, rates.slower(machine, self._caution), recompute=recompute)
        except PlanError as error:
            self.plan = None
            self._settled = True
            self.notices[:] = [f"not planned: {error}"]
            return
        already = {segment.name for segment in repeated_segments(trace)}
        new = tuple(name for name in plan.recomputed if name not in already)
        self._decide_on(self._recomputed or new)
        if new:
            # What an iteration does with these segments recomputed is seen before it is planned.
            self.plan = self._recorded = None
        else:
            self._give(recorded, plan)

    def _decide_on(self, names: tuple[str, ...] | None) -> None:
        """Has these segments recomputed; None has none and leaves the choice open."""
        if (names or ()) != (self._recomputed or ()):
            self._choose(names or ())
            self._only_watches = True
        self._recomputed = names

    def _give(self, recorded: Recorded, plan: Plan) -> None:
        self._recorded, self.plan = recorded, plan
        self._kind = kind_of(recorded.trace)
        self._is_new = True
        self._engine.set_plan(*instructions(recorded, plan))

    def run_parts(self) -> dict[str, Any]:
        """What a run file says of the plan: trace, plan, simulation and the ids of the blocks."""
        recorded, plan = self._recorded, self.plan
        if recorded is None or plan is None:
            return {}
        if self._foretold is None or self._foretold[0] is not plan:
            self._foretold = plan, simulate(recorded.trace, plan.swaps)
        return {
            "trace": recorded.trace,
            "plan": plan,
            "simulation": self._foretold[1],
            "block_ids": [identity for _, identity in recorded.identities],
        }

    def report_lines(self) -> list[str]:
        """What the report says about the plan."""
        lines = []
        if self.plan is not None:
            length = self._round_length
            what = "an iteration" if length == 1 else f"a round of {length} iterations"
            lines.append(f"plan: {self.plan.summary(what)}")
        if self._recomputed:
            lines.append(f"recomputed in backward: {', '.join(self._recomputed)}")
        return lines + self.notices
