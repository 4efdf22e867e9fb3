"""Random numbers that a part of a model draws: the same when it is computed again.

On NumPy the state of the generator is saved and set back. The state of a CuPy generator cannot be
read; there the functions that draw keep what they drew, and a part in which anything else draws is
not computed again. Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import chainer
import numpy
from chainer.backends import cuda
from chainer.functions.activation.rrelu import RReLU
from chainer.functions.noise.dropout import Dropout
from chainer.functions.noise.gaussian import Gaussian
from chainer.functions.noise.simplified_dropconnect import SimplifiedDropconnect
from chainer.functions.rnn.n_step_rnn import BaseNStepRNN

# Attributes from which these functions take what they drew before instead of drawing again.
_DRAWN: dict[type, tuple[str, ...]] = {
    Dropout: ("mask", "states"),
    Gaussian: ("eps",),
    RReLU: ("r",),
    SimplifiedDropconnect: ("mask",),
}


def drawn_by(function: Any) -> tuple[str, ...]:
    """Names of the attributes that a function has to keep because they cannot be drawn again.

    Args:
        function: A chainer.FunctionNode that has been applied.

    Returns:
        Empty for functions that do not draw, and where the generator's state can be set back.
    """
    names = _DRAWN.get(type(function), ())
    return tuple(n for n in names if not isinstance(vars(function).get(n), numpy.ndarray))


def hand_over(kept: dict[str, Any], function: Any) -> None:
    """Have a function that is about to run again use what it drew.

    Args:
        kept: The attributes named by ``drawn_by``, with their values.
        function: The new function node, before its forward.
    """
    for name, value in kept.items():
        if value is not None:
            setattr(function, name, value)


class Draws(chainer.FunctionHook):
    """Notes what is drawn within its context, so that it can be repeated.

    Args:
        has_device_arrays: Whether CuPy's generator may be drawn from.

    Example:
        >>> with Draws(has_device_arrays=False) as draws:
        ...     y = F.dropout(x)
        >>> with draws.repeated():
        ...     same = F.dropout(x)
    """

    def __init__(self, has_device_arrays: bool) -> None:
        self.name = f"swapmem.draws.{id(self)}"
        self._has_device_arrays = has_device_arrays
        self._saved: tuple[bytes, Any] | None = None
        self._watched: Any = None
        #: Whether all that was drawn can be drawn again.
        self.can_be_repeated = True

    def __enter__(self) -> Self:
        self._saved = _host_state()
        if self._has_device_arrays:
            self._watched = _watched_state(cuda.cupy.random.get_random_state())
            cuda.cupy.random.set_random_state(self._watched)
            super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watched is not None:
            super().__exit__(kind, error, traceback)
            cuda.cupy.random.set_random_state(self._watched.original)
            self.can_be_repeated &= not self._watched.has_strangers
            self._watched = None
        if self._saved == _host_state():
            # Nothing to set back: leave the generators to other threads.
            self._saved = None

    def forward_preprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        """Let a function draw that keeps what it drew (called by Chainer)."""
        self._watched.may_draw = type(function) in _DRAWN
        if isinstance(getattr(function, "function", None), BaseNStepRNN):
            # cuDNN draws for its dropout, from states of its own.
            self.can_be_repeated = False

    def forward_postprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        """Its turn is over (called by Chainer)."""
        self._watched.may_draw = False

    @contextlib.contextmanager
    def repeated(self) -> Iterator[None]:
        """Within this context NumPy and Python draw what they drew before."""
        if self._saved is None:
            yield
            return
        now = _host_state()
        _set_host_state(self._saved)
        try:
            yield
        finally:
            _set_host_state(now)


def _host_state() -> tuple[bytes, Any]:
    # NumPy's holds an array, which does not compare as one value.
    return pickle.dumps(numpy.random.get_state(legacy=False)), random.getstate()


def _set_host_state(state: tuple[bytes, Any]) -> None:
    numpy.random.set_state(pickle.loads(state[0]))
    random.setstate(state[1])


def _watched_state(original: Any) -> Any:
    """A stand-in for CuPy's random state that shares its generator and notes who uses it."""

    class Watched(cuda.cupy.random.RandomState):
        may_draw = False
        has_strangers = False

        def __init__(self) -> None:
            # Not the base class's: that would make another generator.
            self.original = original

        def __del__(self, *_: Any) -> None:
            # The generator is the original's to destroy.
            pass

        @property
        def _generator(self) -> Any:
            self.has_strangers |= not self.may_draw
            return original._generator

        @property
        def _rk_seed(self) -> Any:
            self.has_strangers |= not self.may_draw
            return original._rk_seed

        @_rk_seed.setter
        def _rk_seed(self, value: Any) -> None:
            original._rk_seed = value

        def __getattr__(self, name: str) -> Any:
            return getattr(original, name)

    return Watched()
