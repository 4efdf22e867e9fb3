"""The hook that tells a manager's engine what each Chainer operation touches."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import chainer

from swapmem.chainer import segments
from swapmem.chainer.arrays import add_attributes, add_backward_blocks, add_blocks
from swapmem.chainer.eligible import Eligible, GraphHook
from swapmem.chainer.lookahead import BACKWARD_CODES, Lookahead
from swapmem.chainer.once import BackwardOnce
from swapmem.chainer.recompute import restore
from swapmem.chainer.updates import UPDATE_CODE, Updates, add_update
from swapmem.planner.session import Session

if TYPE_CHECKING:
    import numpy

    from swapmem._core import Engine
    from swapmem.manager import Manager

_CALLERS = BACKWARD_CODES | {
    id(code): code for code in (chainer.FunctionNode.apply.__code__, UPDATE_CODE)
}
# Hooks that look at no array.
_LOOK_AT_NOTHING = (GraphHook, BackwardOnce)
# How much of the budget may hold what later backward operations need.
_WINDOW_SHARE = 0.25
# An update holds parameter, gradient and state, and makes temporary arrays of that size. Where that
# would exceed the budget it goes unannounced: step by step it needs fewer of them.
_UPDATE_SHARE = 0.6


# Identity of the function, identity and code of Chainer's frame that runs it, how many ops were
# open before, and the backward pass it belongs to.
_OpenOp = tuple[int, int, CodeType | None, int, Lookahead | None]


class _Target(NamedTuple):
    """What the hooks of all threads of a manager share. Keeps the manager's engine, not it."""

    name: str
    engine: Engine
    current_stream: Callable[[], int]
    budget_bytes: int
    session: Session
    # Where every touch is served every block may be swapped out, and nothing has to be proven.
    eligible: Eligible | None


_targets: weakref.WeakKeyDictionary[Manager, _Target] = weakref.WeakKeyDictionary()
_targets_lock = threading.Lock()
# A graph that outlives its manager must not take another manager's hooks for that one's.
_numbers = itertools.count(1)


def _target_of(manager: Manager) -> _Target:
    with _targets_lock:
        target = _targets.get(manager)
        if target is None:
            eligible = None
            if not manager.engine.sees_touches:
                eligible = Eligible(manager.engine, manager.current_stream)
                manager.add_report(eligible.report_lines)
            budget_bytes = manager.stats()["budget_bytes"]
            session = Session(
                manager.engine,
                manager.device,
                budget_bytes,
                manager.current_stream,
                segments.choose,
                manager.plan,
            )
            manager.add_report(session.report_lines)
            manager.add_run_parts(session.run_parts)
            target = _targets[manager] = _Target(
                f"swapmem.{next(_numbers)}",
                manager.engine,
                manager.current_stream,
                budget_bytes,
                session,
                eligible,
            )
        return target


def _caller(frame: FrameType | None) -> FrameType | None:
    """The frame of Chainer's at or above ``frame``: another hook may have been put in between."""
    while frame is not None and id(frame.f_code) not in _CALLERS:
        frame = frame.f_back
    return frame


class OpHook(chainer.FunctionHook):
    """Opens an engine op around every forward and backward of a function, and every update.

    An op announces the function's inputs, what it retained, its gradients and all arrays among its
    attributes. While a backward op runs, what the next ones need is fetched, unless a plan says
    when; when it ends, what no later one needs is given up first.

    Chainer keeps hooks per thread: one of these belongs to one thread and one manager.

    Args:
        manager: The manager whose engine is to be told; it has been entered.

    Example:
        >>> with OpHook(memory):
        ...     loss = model(x, t)
        ...     loss.backward()
    """

    def __init__(self, manager: Manager) -> None:
        self._start(_target_of(manager))

    @classmethod
    def over(cls, target: _Target) -> OpHook:
        """Makes a hook for a thread that takes no part in the manager."""
        hook = cls.__new__(cls)
        hook._start(target)
        return hook

    def _start(self, target: _Target) -> None:
        self.name = target.name
        self._engine = target.engine
        self._current_stream = target.current_stream
        self._eligible = target.eligible
        self._session = target.session
        self._graph_hook = GraphHook(target.name, functools.partial(OpHook.over, target))
        self._minimum_bytes = target.engine.min_block_bytes
        self._window_bytes = int(target.budget_bytes * _WINDOW_SHARE)
        self._most_update_bytes = int(target.budget_bytes * _UPDATE_SHARE)
        self._base_depth = 0
        self._open: list[_OpenOp] = []
        self._passes: list[Lookahead] = []
        self._updates = Updates()
        self._backward_was_last = False
        self._has_updated = self._sees_updates = False
        self._trains: bool | None = None
        self._is_outermost = False

    def __enter__(self) -> OpHook:
        # A thread may take part twice, as when a worker's code is called directly.
        self._is_outermost = self.name not in chainer.get_function_hooks()
        if self._is_outermost:
            super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_outermost:
            super().__exit__(*exception)

    def added(self, function: Any) -> None:
        """Start to announce operations (called by Chainer)."""
        self._base_depth = self._engine.op_depth()

    def deleted(self, function: Any) -> None:
        """Close what an exception left open (called by Chainer)."""
        self._open.clear()
        self._updates.unwatch_all()
        self._session.end()
        self._engine.abort_ops(self._base_depth, self._current_stream())

    def forward_preprocess(self, function: Any, in_data: tuple[numpy.ndarray, ...]) -> None:
        """Open the op of a forward operation (called by Chainer)."""
        frame = _caller(sys._getframe(1))
        if self._open:
            self._close_dead_ops(frame)
        if self._trains is None:
            self._trains = chainer.config.enable_backprop
            self._session.first_iteration(self._trains)
        if not self._open and self._begins_iteration() and not _is_inside_backward(frame):
            self._backward_was_last = self._has_updated = False
            self._trains = chainer.config.enable_backprop
            self._session.begin_iteration(self._trains)
            if self._eligible is not None:
                self._eligible.forget_gone()
        if self._eligible is not None:
            self._review(self._eligible)
        found: dict[int, int] = {}
        add_blocks(in_data, self._minimum_bytes, found)
        add_attributes(function, self._minimum_bytes, found)
        self._begin(function, frame, function.label, found, None)

    def _begins_iteration(self) -> bool:
        """Whether a forward operation that is inside no other is the first of an iteration."""
        if not self._trains and chainer.config.enable_backprop:
            return True  # an evaluation has no backward pass that would tell where it ends
        if self._sees_updates:
            return self._has_updated  # several backward passes may go into one update
        return self._backward_was_last

    def forward_postprocess(self, function: Any, in_data: tuple[numpy.ndarray, ...]) -> None:
        """Close the op of a forward operation (called by Chainer)."""
        self._end(function)
        if self._eligible is not None:
            self._eligible.applied(function)

    def backward_preprocess(
        self,
        function: Any,
        in_data: tuple[numpy.ndarray | None, ...],
        out_grad: tuple[numpy.ndarray | None, ...],
    ) -> None:
        """Open the op of a backward operation and fetch ahead (called by Chainer)."""
        frame = _caller(sys._getframe(1))
        if self._open:
            self._close_dead_ops(frame)
        # Runs operations, which have to be outside this one's.
        is_recomputed = restore(function)
        self._backward_was_last = True
        ahead = self._pass_of(frame, function)
        has_company = self._eligible is not None and self._review(self._eligible)
        found: dict[int, int] = {}
        known = None if ahead is None or is_recomputed else ahead.blocks_of(function)
        if known is None:
            add_backward_blocks(function, self._minimum_bytes, found)
        else:
            found.update(dict.fromkeys(known, 0))
        add_blocks(out_grad, self._minimum_bytes, found)
        if has_company:
            add_blocks(in_data, self._minimum_bytes, found)
        if ahead is not None and _accumulates(function):
            found.update(ahead.accumulated(function))
        self._begin(function, frame, f"{function.label} backward", found, ahead)
        if ahead is not None and self._engine.may_prefetch():
            wanted, end = ahead.upcoming(function, self._window_bytes)
            if wanted and self._prefetch(wanted) == len(wanted):
                ahead.fetched(end)

    def backward_postprocess(
        self,
        function: Any,
        in_data: tuple[numpy.ndarray | None, ...],
        out_grad: tuple[numpy.ndarray | None, ...],
    ) -> None:
        """Close the op of a backward operation (called by Chainer)."""
        self._end(function)

    def begin_update(self, rule: Any, parameter: Any) -> None:
        """Open the op of a parameter's update (called by Chainer through the update rule)."""
        frame = _caller(sys._getframe(1))
        if self._open:
            self._close_dead_ops(frame)
        self._has_updated = self._sees_updates = True
        found: dict[int, int] = {}
        add_update(rule, parameter, self._minimum_bytes, found)
        if 0 < sum(found.values()) <= self._most_update_bytes:
            self._begin(rule, frame, f"{type(rule).__name__} update", found, None)
        if not self._engine.may_prefetch():
            return
        wanted: dict[int, int] = {}
        for next_rule, next_parameter in self._updates.following(rule, parameter):
            add_update(next_rule, next_parameter, self._minimum_bytes, wanted)
        if wanted:
            self._prefetch(list(wanted))

    def end_update(self, rule: Any) -> None:
        """Close the op of a parameter's update (called by Chainer through the update rule)."""
        self._end(rule)

    def _begin(
        self,
        function: Any,
        frame: FrameType | None,
        name: str,
        found: dict[int, int],
        ahead: Lookahead | None,
    ) -> None:
        if not self._open:
            self._session.op_begins(segments.current())
        depth = self._engine.begin_op(name, list(found), self._current_stream())
        if self._eligible is not None:
            self._eligible.taken(found)
        code = None if frame is None else frame.f_code
        self._open.append((id(function), id(frame), code, depth, ahead))

    def _end(self, function: Any) -> None:
        for index in range(len(self._open) - 1, -1, -1):
            function_id, _, _, depth, ahead = self._open[index]
            if function_id == id(function):
                if index + 1 < len(self._open):
                    # Operations inside this one failed, and it went on.
                    self._engine.abort_ops(depth + 1, self._current_stream())
                del self._open[index:]
                retired = () if ahead is None else ahead.retired_by(function)
                self._engine.end_op(retired, self._current_stream())
                return

    def _close_dead_ops(self, frame: FrameType | None) -> None:
        """Close the ops whose frames are gone: an exception left them without a postprocess."""
        above = None if frame is None else frame.f_back
        while self._open:
            _, frame_id, code, depth, _ = self._open[-1]
            caller = above
            while caller is not None:
                if id(caller) == frame_id and caller.f_code is code:
                    return
                caller = caller.f_back
            self._engine.abort_ops(depth, self._current_stream())
            self._open.pop()

    def _prefetch(self, wanted: list[int]) -> int:
        return self._engine.prefetch(wanted, self._current_stream())

    def _review(self, eligible: Eligible) -> bool:
        """Offer what can be; whether there are other function hooks."""
        hooks = chainer.get_function_hooks().values()
        has_company = any(not isinstance(hook, (OpHook, *_LOOK_AT_NOTHING)) for hook in hooks)
        eligible.review(self._graph_hook, has_company)
        return has_company

    def _pass_of(self, frame: FrameType | None, function: Any) -> Lookahead | None:
        if frame is None or id(frame.f_code) not in BACKWARD_CODES:
            return None
        self._updates.watch_inputs(function)
        while self._passes and self._passes[-1].is_over():
            self._passes.pop()
        if not self._passes or not self._passes[-1].is_of(frame):
            self._passes.append(Lookahead(frame, self._engine))
        if self._engine.may_prefetch():
            self._passes[-1].foresee(frame, function)
        return self._passes[-1]


def _accumulates(function: Any) -> bool:
    """Whether a function adds to gradients itself; for others Chainer does, by an op."""
    default = chainer.FunctionNode.backward_accumulate
    return type(function).backward_accumulate is not default


def _is_inside_backward(frame: FrameType | None) -> bool:
    """Whether a backward loop runs: gradients that were kept apart are added up in one."""
    while frame is not None:
        if id(frame.f_code) in BACKWARD_CODES:
            return True
        frame = frame.f_back
    return False
