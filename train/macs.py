"""How many multiply-accumulates a network does."""

from typing import Any

import chainer
from chainer.functions.connection.convolution_2d import Convolution2DFunction
from chainer.functions.connection.linear import LinearFunction
from chainer.utils.conv import get_conv_outsize


class MacHook(chainer.FunctionHook):
    """Counts the multiply-accumulates of the forward passes within it, by the name of the weight.

    A product of a weight and an input value counts, in convolutions and in linear layers; biases,
    normalizations and poolings do not. Every image of a batch counts.

    Args:
        model: Whose weights are named.

    Attributes:
        macs: Counts by name, such as "/conv1/W".
    """

    name = "MacHook"

    def __init__(self, model: chainer.Chain):
        self._names = {id(parameter.array): name for name, parameter in model.namedparams()}
        self.macs: dict[str, int] = {}

    def forward_postprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        """Counts one operation (called by Chainer)."""
        if isinstance(function, Convolution2DFunction):
            x, weight = in_data[:2]
            places = _places(function, x, weight)
        elif isinstance(function, LinearFunction):
            x, weight = in_data[:2]
            places = len(x)
        else:
            return
        name = self._names[id(weight)]
        self.macs[name] = self.macs.get(name, 0) + places * weight.size


def _places(function: Any, x: Any, weight: Any) -> int:
    """How many values a convolution computes in each of its output channels."""
    (height, width), (kernel_height, kernel_width) = x.shape[2:], weight.shape[2:]
    rows = get_conv_outsize(
        height, kernel_height, function.sy, function.ph, function.cover_all, function.dy
    )
    columns = get_conv_outsize(
        width, kernel_width, function.sx, function.pw, function.cover_all, function.dx
    )
    return len(x) * int(rows) * int(columns)
