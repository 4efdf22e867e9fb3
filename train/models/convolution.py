"""Convolutions that need little more memory than their arguments and results."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from chainer import FunctionNode, Variable
from chainer.functions.connection import convolution_2d
from chainer.utils.conv import col2im_cpu, im2col_cpu
from numpy.typing import NDArray

from swapmem.chainer.arrays import DeviceArray
from train.models import parts
from train.models.gradient_sums import AddsToItsGradients

Arrays = tuple[NDArray[Any], ...]


class Convolution2D(L.Convolution2D):
    """Chainer's link, parameters and all; works in parts where the columns would be large.

    In parts the results are Chainer's within rounding: the sums are taken in another order. Takes
    the arguments of ``chainer.links.Convolution2D``, the number of input channels among them.
    Convolutions in groups are done as Chainer does them.

    Example:
        >>> y = Convolution2D(3, 64, 7, stride=2, pad=3)(images)  # float32, (batch, 3, H, W)
    """

    def forward(self, x: Any) -> Variable:
        x = chainer.as_variable(x)
        windows = parts.Windows(self.W.shape[2:], self.stride, self.pad, False, self.dilate)
        function: FunctionNode
        if self.groups == 1 and windows.need_parts(x.array):
            function = ConvolutionInParts(windows)
        elif _writes_out_columns(x.array) or chainer.config.lazy_grad_sum:
            return super().forward(x)
        else:
            options = {"groups": self.groups, "cudnn_fast": self.cudnn_fast}
            function = Convolution2DFunction(self.stride, self.pad, dilate=self.dilate, **options)
        inputs = (x, self.W) if self.b is None else (x, self.W, self.b)
        (y,) = function.apply(inputs)
        return y


def _writes_out_columns(x: Any) -> bool:
    """Whether Chainer's convolution needs so much itself that sums of gradients do not matter."""
    return not (isinstance(x, DeviceArray) and chainer.should_use_cudnn(">=auto"))


class Convolution2DFunction(AddsToItsGradients, convolution_2d.Convolution2DFunction):
    """Chainer's, and under its name, which hooks and reports tell."""


@dataclass(frozen=True)
class _Strip:
    """Some rows of the output of a convolution, and what of its input they come from."""

    rows: slice
    count: int
    # Of the input; beside them so many rows of padding above and below.
    taken: slice
    above: int
    below: int


class _Strips:
    """A convolution, as products of the weights and the columns of a few rows.

    Args:
        windows: Where the windows lie.
        shape: The input's.
        itemsize: Bytes of a value.
    """

    def __init__(self, windows: parts.Windows, shape: tuple[int, ...], itemsize: int):
        self._windows = windows
        self._channels, self._height, self._width = shape[1:]
        self.down, self.across = windows.count(shape)
        row_bytes = self._channels * int(np.prod(windows.kernel)) * self.across * itemsize
        self._rows = max(1, parts.PART_BYTES // row_bytes)

    def __iter__(self) -> Iterator[_Strip]:
        stride, pad = self._windows.stride[0], self._windows.pad[0]
        reach = (self._windows.kernel[0] - 1) * self._windows.dilate[0] + 1
        for first in range(0, self.down, self._rows):
            count = min(self._rows, self.down - first)
            start = first * stride - pad
            size = (count - 1) * stride + reach
            taken = slice(*np.clip((start, start + size), 0, self._height).tolist())
            above = min(size, max(0, -start))
            below = size - above - (taken.stop - taken.start)
            yield _Strip(slice(first, first + count), count, taken, above, below)

    def columns(self, image: NDArray[Any], strip: _Strip) -> NDArray[Any]:
        """Writes out the windows of a strip: (channels times kernel, windows)."""
        rows = np.pad(image[:, strip.taken], ((0, 0), (strip.above, strip.below), (0, 0)))
        windows = self._windows
        (_, pad), (dy, dx) = windows.pad, windows.dilate
        geometry = (*windows.kernel, *windows.stride, 0, pad)
        size = {"out_h": strip.count, "out_w": self.across}
        columns: NDArray[Any] = im2col_cpu(rows[None], *geometry, dy=dy, dx=dx, **size)
        return columns.reshape(-1, strip.count * self.across)

    def add_columns(self, columns: NDArray[Any], strip: _Strip, image: NDArray[Any]) -> None:
        """Adds each value of windows where it came from."""
        windows = self._windows
        (_, pad), (dy, dx) = windows.pad, windows.dilate
        shape = (1, self._channels, *windows.kernel, strip.count, self.across)
        end = strip.above + strip.taken.stop - strip.taken.start
        size = end + strip.below, self._width
        rows = col2im_cpu(columns.reshape(shape), *windows.stride, 0, pad, *size, dy, dx)
        image[:, strip.taken] += rows[0, :, strip.above : end]


class ConvolutionInParts(Convolution2DFunction):
    """Output from input and weights; each of the three has its gradient from the other two."""

    def __init__(self, windows: parts.Windows):
        super().__init__(windows.stride, windows.pad, windows.cover_all, dilate=windows.dilate)
        self._windows = windows

    def forward_cpu(self, inputs: Arrays) -> Arrays:
        self.retain_inputs((0, 1))
        x, weights, *bias = inputs
        strips = _Strips(self._windows, x.shape, x.itemsize)
        y = np.empty((len(x), len(weights), strips.down, strips.across), x.dtype)
        for image, result in zip(x, y, strict=True):
            for strip in strips:
                rows = _flat(result[:, strip.rows])
                np.matmul(_flat(weights), strips.columns(image, strip), out=rows)
                for values in bias:
                    rows += values[:, None]
        return (y,)

    def backward(self, indexes: tuple[int, ...], gradients: Any) -> Any:
        x, weights = self.get_retained_inputs()
        (gy,) = gradients
        found: list[Variable] = []
        if 0 in indexes:
            found += InputGradientInParts(self._windows, x.shape).apply((gy, weights))
        if 1 in indexes:
            found += WeightGradientInParts(self._windows, weights.shape).apply((x, gy))
        if 2 in indexes:
            found.append(F.sum(gy, axis=(0, 2, 3)))
        return found


class InputGradientInParts(FunctionNode):
    """Gradient of the input from those of the output, and the weights."""

    def __init__(self, windows: parts.Windows, shape: tuple[int, ...]):
        self._windows = windows
        self._shape = shape

    def forward_cpu(self, inputs: Arrays) -> Arrays:
        self.retain_inputs((0, 1))
        gy, weights = inputs
        strips = _Strips(self._windows, self._shape, gy.itemsize)
        gx = np.zeros(self._shape, gy.dtype)
        for gradient, result in zip(gy, gx, strict=True):
            for strip in strips:
                columns = _flat(weights).T @ _flat(gradient[:, strip.rows])
                strips.add_columns(columns, strip, result)
        return (gx,)

    def backward(self, indexes: tuple[int, ...], gradients: Any) -> Any:
        gy, weights = self.get_retained_inputs()
        (x,) = gradients
        found: list[Variable] = []
        if 0 in indexes:
            found += ConvolutionInParts(self._windows).apply((x, weights))
        if 1 in indexes:
            found += WeightGradientInParts(self._windows, weights.shape).apply((x, gy))
        return found


class WeightGradientInParts(FunctionNode):
    """Gradient of the weights from the input, and the gradient of the output."""

    def __init__(self, windows: parts.Windows, shape: tuple[int, ...]):
        self._windows = windows
        self._shape = shape

    def forward_cpu(self, inputs: Arrays) -> Arrays:
        self.retain_inputs((0, 1))
        x, gy = inputs
        strips = _Strips(self._windows, x.shape, x.itemsize)
        gradient_of_weights = np.zeros(self._shape, x.dtype)
        for image, gradient in zip(x, gy, strict=True):
            for strip in strips:
                columns = strips.columns(image, strip)
                _flat(gradient_of_weights)[...] += _flat(gradient[:, strip.rows]) @ columns.T
        return (gradient_of_weights,)

    def backward(self, indexes: tuple[int, ...], gradients: Any) -> Any:
        x, gy = self.get_retained_inputs()
        (weights,) = gradients
        found: list[Variable] = []
        if 0 in indexes:
            found += InputGradientInParts(self._windows, x.shape).apply((gy, weights))
        if 1 in indexes:
            found += ConvolutionInParts(self._windows).apply((x, weights))
        return found


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """An array with all dimensions but the first as one; of arrays made here a view."""
    return array.reshape(len(array), -1)
