"""Gradients that are added to one another where the last of them is.

Where several functions read a variable, Chainer adds up their gradients into an array of its own:
for a moment there are three as large as the variable, such as a residual block's input, which with
large images is a good part of a budget. A function that has just made its gradient may add to it
those that were there before, and there are two.

Only an array that nobody else can know of is written to. The gradients from before are not: they
may be a parameter's, the program's, or those of several variables at once.
"""

from typing import Any

import chainer
import chainer.functions as F
from chainer import FunctionNode, Variable
from chainer.functions.math.basic_math import Add


class AddsToItsGradients(FunctionNode):
    """A function that adds the gradients from before to those that its backward makes.

    The sums are Chainer's to the last bit. Under double backprop Chainer adds, and so it does where
    an array made for the sum would be of another kind.

    To be inherited from by functions whose backward returns new arrays only, which nobody else
    refers to, each for one input.

    With ``chainer.config.lazy_grad_sum`` Chainer keeps gradients apart and later adds them up from
    the first to the last; this class adds the last two at once. It is not for use with that.

    Example:
        >>> class Function(AddsToItsGradients, Convolution2DFunction): ...
    """

    def backward_accumulate(
        self,
        target_input_indexes: tuple[int, ...],
        grad_outputs: tuple[Variable | None, ...],
        grad_inputs: tuple[Variable | None, ...],
    ) -> tuple[Variable, ...]:
        """Returns the sums of the gradients from before and this function's (for Chainer)."""
        made = self.backward(target_input_indexes, grad_outputs)
        return tuple(_sum(old, new) for old, new in zip(grad_inputs, made, strict=True))


class _AddTo(Add):
    """Chainer's sum of two arrays in place of the second: the same op for hooks and reports."""

    def forward(self, arrays: tuple[Any, Any]) -> tuple[Any]:
        old, new = arrays
        new += old
        return (new,)


def _sum(old: Variable | None, new: Variable) -> Variable:
    if old is None:
        return new
    if chainer.config.enable_backprop or not _is_place_of_sum(old, new):
        return F.add(old, new)
    (total,) = _AddTo().apply((old, new))
    return total


def _is_place_of_sum(old: Variable, new: Variable) -> bool:
    """Whether an array is as one made for the sum would be, order in memory included.

    What is computed from an array in another order is rounded in another way. What Chainer makes
    on NumPy of padded images is such an array: it looks into one with the padding.
    """
    before, made = old.raw_array, new.raw_array
    return (
        type(before) is type(made)
        and old.device == new.device
        and (before.shape, before.dtype) == (made.shape, made.dtype)
        and bool(before.flags.c_contiguous and made.flags.c_contiguous)
    )
