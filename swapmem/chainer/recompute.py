"""Parts of a model that keep no intermediate results but compute them again in backward.

The graph stays as it is: the same function nodes, in the same order, with the same ranks, so that a
backward pass does the same sums in the same order. Only arrays go. When the part returns, what its
functions kept for their backward is taken from them; before the first of them is needed, the part
is called once more and the arrays are put into the old nodes. What a function got back it gives up
again after its backward.

Chainer's links know that they are called again (``chainer.config.in_recomputing``): batch
normalization does not count the batch twice. Random numbers are the same (swapmem.chainer.draws).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import chainer

from swapmem.chainer.arrays import DeviceArray, add_blocks
from swapmem.chainer.draws import Draws, hand_over
from swapmem.chainer.kept import Kept
from swapmem.errors import Error
from swapmem.planner.recompute import SMALL_SHARE

_TRIGGER = "swapmem.recompute"
_numbers = itertools.count(1)


class RecomputeError(Error, RuntimeError):
    """A part of a model did not do the same when it was computed again; nothing was changed.

    Attributes:
        segment: name of the part.
    """

    def __init__(self, message: str, segment: str) -> None:
        super().__init__(message)
        self.segment = segment

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.segment)


def call(
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    around: Callable[[], AbstractContextManager[None]],
) -> Any:
    """Call a part of a model and have its intermediate results computed again in backward.

    Where that could not be right nothing is dropped: if random numbers are drawn that cannot be
    drawn again, or a backward pass runs inside.

    Args:
        name: The part's.
        function: The part.
        arguments: What it is called with.
        around: Makes a context for each further call of `function`.

    Returns:
        What `function` returns.
    """
    if not chainer.config.enable_backprop or chainer.config.in_recomputing:
        return function(*arguments)
    inputs = _Arguments(arguments)
    recorder = _Recorder()
    with (
        Draws(inputs.are_on_device) as draws,
        recorder,
        chainer.using_config("_will_recompute", True),
    ):
        result = function(*arguments)
    if draws.can_be_repeated and not recorder.has_backward:
        part = _Part(name, function, inputs, around, draws, recorder.config)
        part.drop(recorder.functions, recorder.kept)
    return result


def restore(function: Any) -> bool:
    """Compute again what a function lacks for its backward, if it lacks anything.

    Args:
        function: A chainer.FunctionNode whose backward is about to run.

    Returns:
        Whether what the function keeps for its backward comes and goes.

    Raises:
        RecomputeError: The part of the model that it belongs to did something else this time.
    """
    trigger = _trigger_of(function)
    if trigger is None:
        return False
    trigger.restore()
    return True


def add_recompute_blocks(function: Any, minimum_bytes: int, found: dict[int, int]) -> None:
    """Note the memory behind what is needed to compute again what a function lacks.

    Args:
        function: A chainer.FunctionNode that has been applied.
        minimum_bytes: Arrays that own less are no blocks and are left out.
        found: Gets start addresses as keys and sizes in bytes as values.
    """
    trigger = _trigger_of(function)
    if trigger is not None and trigger.kept.is_missing:
        add_blocks(trigger.part.inputs.arrays(), minimum_bytes, found)


def forget(function: Any) -> None:
    """Never again compute what a function lacks: its backward is done for good.

    Args:
        function: A chainer.FunctionNode.
    """
    if _trigger_of(function) is not None:
        del function._local_function_hooks[_TRIGGER]


def _trigger_of(function: Any) -> _Trigger | None:
    hooks = function._local_function_hooks
    return None if hooks is None else hooks.get(_TRIGGER)


class _Arguments:
    """What a part is called with, kept for another call: of variables their nodes."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._items = tuple(_map(_to_node, item) for item in arguments)
        self.are_on_device = any(isinstance(a, DeviceArray) for a in self.arrays())

    def arrays(self) -> list[Any]:
        """The arrays that stay for another call."""
        found: list[Any] = []
        for item in self._items:
            _map(lambda leaf: found.append(leaf.array if isinstance(leaf, _Input) else leaf), item)
        return found

    def again(self) -> list[Any]:
        """The arguments, with variables that have no past."""
        return [
            _map(lambda leaf: leaf.variable() if isinstance(leaf, _Input) else leaf, item)
            for item in self._items
        ]


class _Input:
    """A variable that a part was called with. Its node has the array from now on."""

    def __init__(self, variable: Any) -> None:
        self._node = variable.node
        if self._node.data is None:
            variable.retain_data()

    @property
    def array(self) -> Any:
        return self._node.data

    def variable(self) -> Any:
        node = self._node
        return chainer.Variable(
            node.data, name=node.name, requires_grad=node.requires_grad, layout=node._layout
        )


def _to_node(item: Any) -> Any:
    is_plain = isinstance(item, chainer.Variable) and not isinstance(item, chainer.Parameter)
    return _Input(item) if is_plain else item


def _map(function: Callable[[Any], Any], item: Any) -> Any:
    if type(item) in (tuple, list):
        return type(item)(_map(function, member) for member in item)
    return function(item)


def _configuration() -> dict[str, Any]:
    """Chainer's configuration as the calling thread sees it."""
    return {**vars(chainer.global_config), **vars(chainer.config._local)}


class _Recorder(chainer.FunctionHook):
    """Notes the functions that a part applies."""

    def __init__(self) -> None:
        self.name = f"{_TRIGGER}.{next(_numbers)}"
        self.config = _configuration()
        self.functions: list[Any] = []
        self.kept: list[Kept] = []
        self.has_backward = False

    def forward_preprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        self.functions.append(function)
        self.kept.append(Kept(function, in_data))

    def backward_preprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        self.has_backward = True


class _Trigger(chainer.FunctionHook):
    """The hook that a function of a recomputed part carries.

    Managers' hooks, which come before it, have restored what the function needs by then.
    """

    name = _TRIGGER

    def __init__(self, part: _Part, kept: Kept) -> None:
        self.part = part
        self.kept = kept

    def restore(self) -> None:
        if self.kept.is_missing:
            self.part.restore()

    def backward_preprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        self.restore()

    def backward_postprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        # Under double backprop the graph goes on to be used, by functions that are no part of this.
        self.part.is_kept |= chainer.config.enable_backprop
        if not self.part.is_kept:
            self.kept.drop()


class _Part:
    """One call of a part of a model: what is needed to call it again, and what it then gives.

    Refers to the functions of the graph weakly, as they refer to it.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: _Arguments,
        around: Callable[[], AbstractContextManager[None]],
        draws: Draws,
        config: dict[str, Any],
    ) -> None:
        self.inputs = inputs
        self.is_kept = False
        self._name = name
        self._function = function
        self._around = around
        self._draws = draws
        self._config = config
        self._kept: list[Kept] = []

    def drop(self, functions: list[Any], kept: list[Kept]) -> None:
        """Take from the functions what can be computed again."""
        self._kept = kept
        inner = {id(function) for function in functions}
        pairs = list(zip(functions, kept, strict=True))
        largest_bytes = max((one.find(function, inner) for function, one in pairs), default=0)
        users: dict[int, list[Kept]] = {}
        for one in kept:
            one.settle(largest_bytes // SMALL_SHARE, users)
        for function, one in pairs:
            if one.is_droppable:
                function.add_hook(_Trigger(self, one), _TRIGGER)
                one.drop()

    def restore(self) -> None:
        """Call the part again and give its functions back what they lack."""
        again = _Again(self._name, self._kept)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._around())
            stack.enter_context(self._draws.repeated())
            stack.enter_context(_configured(self._config))
            stack.enter_context(again)
            try:
                self._function(*self.inputs.again())
            except _Enough as enough:
                if enough.again is not again:
                    raise
            else:
                again.check_is_complete()
        again.give_back()


@contextlib.contextmanager
def _configured(config: dict[str, Any]) -> Iterator[None]:
    """Set the configuration to what it was, and tell links that they are called again."""
    wanted = {**config, "in_recomputing": True, "_will_recompute": False}
    now = _configuration()
    missing = object()
    with contextlib.ExitStack() as stack:
        for key, value in wanted.items():
            if now.get(key, missing) is not value:
                stack.enter_context(chainer.using_config(key, value))
        yield


class _Enough(BaseException):
    """All that is needed has been computed. No error: no handler of a model's is to catch it."""

    def __init__(self, again: _Again) -> None:
        self.again = again


class _Again(chainer.FunctionHook):
    """Follows a part that is computed again, takes what is missing, and stops when it has all."""

    def __init__(self, name: str, kept: list[Kept]) -> None:
        self.name = f"{_TRIGGER}.{next(_numbers)}"
        self._segment = name
        self._kept = kept
        missing = [index for index, one in enumerate(kept) if one.is_missing]
        self._last_run = max((i for i in missing if kept[i].has_to_run), default=-1)
        self._last = max(missing)
        self._position = 0
        self._running = 0
        self._functions: dict[int, Any] = {}
        self._inputs: dict[int, list[Any]] = {}

    def added(self, function: Any) -> None:
        """Come before all other hooks: what is not run must not be announced."""
        chainer.get_function_hooks().move_to_end(self.name, last=False)

    def forward_preprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        index = self._position
        if index >= len(self._kept) or not self._kept[index].is_like(function, in_data):
            self._refuse(index, Kept(function, in_data).description)
        one = self._kept[index]
        if one.is_missing:
            self._functions[index] = function
            # No others: those go as they went the first time.
            self._inputs[index] = one.missing_of(in_data)
        if index >= self._last and index > self._last_run and not self._running:
            raise _Enough(self)
        hand_over(one.drawn, function)
        self._position += 1
        self._running += 1

    def forward_postprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        self._running -= 1

    def check_is_complete(self) -> None:
        if self._position < len(self._kept):
            self._refuse(self._position, "nothing")

    def give_back(self) -> None:
        for index, function in self._functions.items():
            self._kept[index].give_back(function, self._inputs[index])

    def _refuse(self, index: int, found: str) -> None:
        expected = self._kept[index].description if index < len(self._kept) else "nothing"
        raise RecomputeError(
            f"segment {self._segment!r} did something else when it was computed again in backward: "
            f"operation {index + 1} was {expected}, and now {found}. What a segment does may only "
            "depend on its arguments, on parameters and on random numbers; do not recompute it",
            self._segment,
        )
