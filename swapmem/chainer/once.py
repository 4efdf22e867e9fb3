"""Graphs that one backward pass goes through: what it has passed is let go at once."""

from __future__ import annotations

from typing import Any

import chainer

from swapmem.chainer.arrays import array_types
from swapmem.chainer.recompute import forget
from swapmem.errors import Error


class BackwardTwice(Error, RuntimeError):
    """A backward pass came to a function whose arrays an earlier one had let go.

    Example:
        >>> with BackwardOnce():
        ...     loss = model(images, labels)
        ...     loss.backward()
        >>> loss.backward()  # of the same graph: raises it
    """


class BackwardOnce(chainer.FunctionHook):
    """Frees what a function kept for its backward as soon as that is done.

    Chainer keeps it until the graph is gone, that is until all of backward is over: a second pass
    might come. Until then arrays that nobody reads any more take up memory, and where that is
    scarce they are copied out to make room. A program in which each graph is gone through once, as
    in nearly every training loop, can say so with this hook.

    Under double backprop nothing is freed. Variables that the program keeps have their arrays.

    Raises:
        BackwardTwice: By a second backward pass through the same graph, within the context or
            after it; gradients are then those of neither pass.

    Example:
        >>> with swapmem.Manager(device="host", device_memory="2GiB"), BackwardOnce():
        ...     optimizer.update(model, images, labels)
    """

    name = "swapmem.once"

    def backward_postprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        """Free it (called by Chainer)."""
        if chainer.config.enable_backprop:
            return
        for name, value in vars(function).items():
            if isinstance(value, array_types):
                setattr(function, name, None)
        function._retained_output_data = (None,) * len(function._retained_output_data or ())
        for reference in function.outputs:
            node = reference()
            # Whoever read it comes later in the graph, and has been passed.
            if node is not None:
                # Not by way of `data`, which would forget the shape.
                node._data = None
        forget(function)
        function.local_function_hooks[_Passed.name] = _PASSED


class _Passed(chainer.FunctionHook):
    """The hook of a function that has nothing left for a backward."""

    name = "swapmem.passed"

    def backward_preprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        raise BackwardTwice(
            f"a second backward pass came to {function.label}: what it kept was let go after the "
            "first one; go through the graph once, or do without BackwardOnce"
        )


_PASSED = _Passed()
