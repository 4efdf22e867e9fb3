"""Maximum pooling that needs no more memory than its arguments and results."""

import itertools
from collections.abc import Iterator
from typing import Any

import chainer
import chainer.functions as F
import numpy as np
from chainer import Variable
from chainer.functions.pooling.max_pooling_nd import MaxPoolingND, MaxPoolingNDGrad
from numpy.typing import NDArray

from train.models import parts


def max_pooling_2d(
    x: Any,
    kernel: int | parts.Pair,
    stride: int | parts.Pair | None = None,
    pad: int | parts.Pair = 0,
    cover_all: bool = True,
) -> Variable:
    """Takes the largest value of each window; in parts where the columns would be large.

    The same values as ``chainer.functions.max_pooling_2d``, forward and backward, to the last bit;
    but the gradient of a window with NaN may go to another of its values.

    Args:
        x: Floats, (batch, channels, height, width).
        kernel: Height and width of the windows: one number, or one each.
        stride: Pixels from one window to the next; as many as `kernel` unless given.
        pad: Pixels around the image, which are smaller than every value.
        cover_all: Whether windows begin until all pixels are in one, or end with the last pixel.

    Returns:
        (batch, channels, windows down, windows across).

    Example:
        >>> y = max_pooling_2d(chainer.Variable(images), 3, stride=2)
    """
    x = chainer.as_variable(x)
    pooling = MaxPoolingInParts(2, kernel, stride, pad, cover_all)
    if not pooling.windows.need_parts(x.array):
        return F.max_pooling_2d(x, kernel, stride, pad, cover_all)
    (y,) = pooling.apply((x,))
    return y


class MaxPoolingInParts(MaxPoolingND):
    """Forward; keeps one byte for each result, which of its window's values is the largest."""

    @property
    def windows(self) -> parts.Windows:
        """Where the windows lie."""
        return parts.Windows(self.ksize, self.stride, self.pad, self.cover_all)

    def forward_cpu(self, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        (x,) = inputs
        shape = x.shape[:2] + self.windows.count(x.shape)
        largest = np.empty(shape, x.dtype)
        indexes = np.zeros(shape, np.min_scalar_type(np.prod(self.ksize) - 1))
        for part in _parts(x):
            padded = np.pad(x[part], self.padding, constant_values=-np.inf)
            values = self.shifted(padded, shape)
            largest[part] = next(values)
            for index, value in enumerate(values, start=1):
                np.putmask(indexes[part], value > largest[part], index)
                np.maximum(value, largest[part], out=largest[part])
        self._in_shape, self._in_dtype = x.shape, x.dtype
        self.indexes = indexes
        return (largest,)

    def backward(self, indexes: tuple[int, ...], gradients: Any) -> Any:
        return MaxPoolingInPartsGrad(self).apply(gradients)

    @property
    def padding(self) -> list[parts.Pair]:
        """How many values Chainer puts before and after, in each dimension of some channels."""
        around = zip(self.pad, self.stride, strict=True)
        return [(0, 0), *((pad, pad + stride - 1) for pad, stride in around)]

    def shifted(self, padded: NDArray[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """Yields, for each place in a window, a view of the value there of all windows."""
        (high, wide), (down, across) = self.stride, shape[2:]
        for y, x in itertools.product(*map(range, self.ksize)):
            yield padded[:, y : y + high * down : high, x : x + wide * across : wide]


class MaxPoolingInPartsGrad(MaxPoolingNDGrad):
    """Backward; to be differentiated again it writes out the windows, as Chainer's does."""

    def forward_cpu(self, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        (gy,) = inputs
        pooling = self.func
        gx = np.zeros(pooling._in_shape, pooling._in_dtype)
        (top, left), (height, width) = pooling.pad, gx.shape[2:]
        for part in _parts(gx):
            padded = np.pad(gx[part], pooling.padding)
            for index, sums in enumerate(pooling.shifted(padded, gy.shape)):
                sums += np.where(pooling.indexes[part] == index, gy[part], 0)
            gx[part] = padded[:, top : top + height, left : left + width]
        return (gx,)


def _parts(x: NDArray[Any]) -> Iterator[tuple[int, slice]]:
    """Yields indexes of some channels of one image at a time."""
    images, channels = x.shape[:2]
    count = max(1, parts.PART_BYTES // x[0, 0].nbytes)
    for image in range(images):
        for start in range(0, channels, count):
            yield image, slice(start, start + count)
