"""Names for the parts of a model, and which of them are recomputed in backward.

A model calls its parts through ``segment``. By itself that changes nothing: the part is called, and
whoever records what runs can ask for its name. A part that is chosen keeps no intermediate results:
they are computed again when a backward pass needs them, and the gradients are the same to the last
bit.

Parts nest. What a part is chosen by is its path: the part "up" of the part "stage2.0" is
"stage2.0/up". Choices and paths are the calling thread's own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

from swapmem.chainer import recompute
from swapmem.planner.paths import SEPARATOR


class _State(threading.local):
    """What a thread has chosen and where it is."""

    chosen: frozenset[str] = frozenset()
    # What the context says that the thread is in, if any.
    forced: frozenset[str] | None = None
    path: str | None = None
    is_recomputed: bool = False


_state = _State()


def segment(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part of a model under a name.

    What the part does may depend on its arguments, on parameters and on random numbers, and on
    nothing that is another between its forward and its backward. In a part that is recomputed,
    parameters must not be updated in between either.

    Args:
        name: What the part is called, without "/"; each part of a model, and each part of one part,
            has a name of its own. What is called within a part is a part of that one, and is
            computed again with it.
        function: The part: a link, or anything that is called with `arguments`.
        arguments: What the part works on: variables, tuples and lists of them, anything else.

    Returns:
        What `function` returns.

    Raises:
        ValueError: There is a "/" in `name`.

    Example:
        >>> h = segment("stage2.0", self.block, h)
    """
    if SEPARATOR in name:
        raise ValueError(
            f'a segment cannot be called {name!r}: "{SEPARATOR}" stands between the names of '
            "segments that nest"
        )
    # Most calls come here and go no further: what a context manager costs would be felt.
    state = _state
    before = state.path
    path = name if before is None else f"{before}{SEPARATOR}{name}"
    if state.is_recomputed or path not in chosen():
        state.path = path
        try:
            return function(*arguments)
        finally:
            state.path = before
    around = functools.partial(_recomputed, path)
    with around():
        return recompute.call(path, function, arguments, around)


def current() -> str | None:
    """The path of the innermost part that the calling thread is in.

    A part that runs again in backward has the path that it had in forward.

    Returns:
        None outside every part.
    """
    return _state.path


def chosen() -> frozenset[str]:
    """Paths of the parts that are recomputed, in the calling thread."""
    return _state.chosen if _state.forced is None else _state.forced


def choose(paths: Collection[str]) -> None:
    """Have parts recomputed from now on, in the calling thread.

    What was called before keeps what it has. A manager does this for its plan.

    Args:
        paths: Of the parts; all others are stored. A part within one of them is a part of it.
            Paths that no part has are ignored.

    Example:
        >>> choose({"stage2.0", "stage2.1/up"})
    """
    _state.chosen = frozenset(paths)


@contextlib.contextmanager
def recomputing(paths: Collection[str]) -> Iterator[None]:
    """Have these parts recomputed, of those called within the context, and no others.

    Whatever is chosen: a manager's plan included. Only the forward pass has to be within it.

    Args:
        paths: As for ``choose``.

    Example:
        >>> with recomputing({"stage2.0"}):
        ...     loss = model(x, t)
        >>> loss.backward()
    """
    before = _state.forced
    _state.forced = frozenset(paths)
    try:
        yield
    finally:
        _state.forced = before


@contextlib.contextmanager
def _recomputed(path: str) -> Iterator[None]:
    before = _state.path, _state.is_recomputed
    _state.path, _state.is_recomputed = path, True
    try:
        yield
    finally:
        _state.path, _state.is_recomputed = before
