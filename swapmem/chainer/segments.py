"""Names for the parts of a model, and which of them are recomputed in backward.

A model calls its parts through ``segment``. By itself that changes nothing: the part is called, and
whoever records what runs can ask for its name. A part whose name is chosen keeps no intermediate
results: they are computed again when a backward pass needs them, and the gradients are the same to
the last bit.

Choices and names are the calling thread's own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

from swapmem.chainer import recompute


class _State(threading.local):
    """What a thread has chosen and where it is."""

    chosen: frozenset[str] = frozenset()
    # What the context says that the thread is in, if any.
    forced: frozenset[str] | None = None
    current: str | None = None
    is_recomputed: bool = False


_state = _State()


def segment(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part of a model under a name.

    What the part does may depend on its arguments, on parameters and on random numbers, and on
    nothing that is another between its forward and its backward. In a part that is recomputed,
    parameters must not be updated in between either.

    Args:
        name: What the part is called; each part of a model has a name of its own. A part within
            another belongs to that one.
        function: The part: a link, or anything that is called with `arguments`.
        arguments: What the part works on: variables, tuples and lists of them, anything else.

    Returns:
        What `function` returns.

    Example:
        >>> h = segment("stage2.0", self.block, h)
    """
    # A part of a part that is recomputed is recomputed with it.
    if name not in chosen() or _state.is_recomputed:
        with _named(name, _state.is_recomputed):
            return function(*arguments)
    around = functools.partial(_named, name, True)
    with around():
        return recompute.call(name, function, arguments, around)


def current() -> str | None:
    """The name of the part that the calling thread is in; the outermost one's, where they nest.

    Returns:
        None outside every part.
    """
    return _state.current


def chosen() -> frozenset[str]:
    """Names of the parts that are recomputed, in the calling thread."""
    return _state.chosen if _state.forced is None else _state.forced


def choose(names: Collection[str]) -> None:
    """Have parts recomputed from now on, in the calling thread.

    What was called before keeps what it has. A manager does this for its plan.

    Args:
        names: Of the parts; all others are stored. Names that no part has are ignored.

    Example:
        >>> choose({"stage2.0", "stage2.1"})
    """
    _state.chosen = frozenset(names)


@contextlib.contextmanager
def recomputing(names: Collection[str]) -> Iterator[None]:
    """Have these parts recomputed, of those called within the context, and no others.

    Whatever is chosen: a manager's plan included. Only the forward pass has to be within it.

    Args:
        names: As for ``choose``.

    Example:
        >>> with recomputing({"stage2.0"}):
        ...     loss = model(x, t)
        >>> loss.backward()
    """
    before = _state.forced
    _state.forced = frozenset(names)
    try:
        yield
    finally:
        _state.forced = before


@contextlib.contextmanager
def _named(name: str, is_recomputed: bool) -> Iterator[None]:
    before = _state.current, _state.is_recomputed
    _state.current = name if before[0] is None else before[0]
    _state.is_recomputed = is_recomputed
    try:
        yield
    finally:
        _state.current, _state.is_recomputed = before
