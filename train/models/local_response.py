"""Local response normalization that needs no more memory than its arguments and results.

Chainer's own on NumPy makes up to six temporary arrays of its input's size, and keeps three for
backward besides the input. That made it the op that decided how small a budget can be.
"""

from typing import Any

import chainer.functions as F
import numpy as np
from chainer import FunctionNode, Variable
from numpy.typing import NDArray

#: Positions times channels that are worked on at once: three such arrays stay in a core's cache.
_PART = 1 << 15


def local_response_normalization(
    x: Variable, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> Variable:
    """Divides each channel by (k + alpha times the squares of the n channels around it) to beta.

    Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
    section 3.3. The same numbers as ``chainer.functions.local_response_normalization``, which is
    what runs on a GPU: there it makes no temporary arrays.

    Args:
        x: float32, (batch, channels, height, width).
        n: How many channels, the channel itself in the middle.
        k: Added to the squares.
        alpha: Factor of the squares.
        beta: Exponent.

    Returns:
        As large as `x`.

    Example:
        >>> y = local_response_normalization(chainer.Variable(images))
    """
    if not isinstance(x.array, np.ndarray):
        return F.local_response_normalization(x, n, k, alpha, beta)
    (y,) = LocalResponse(n, k, alpha, beta).apply((x,))
    return y


class _Parts:
    """The formula, on some positions of all channels of one image: arrays (channels, positions)."""

    def __init__(self, n: int, k: float, alpha: float, beta: float):
        self.half = n // 2
        self.k = k
        self.alpha = alpha
        self.beta = beta

    def split(self, *arrays: NDArray[Any]) -> Any:
        """Yields the same part of each array, and three parts of that size to work in."""
        channels, positions = arrays[0].shape[1], int(np.prod(arrays[0].shape[2:]))
        flat = [array.reshape(-1, channels, positions) for array in arrays]
        width = min(positions, max(1, _PART // channels))
        space = np.empty((3, channels * width), arrays[0].dtype)
        for images in zip(*flat, strict=True):
            for start in range(0, positions, width):
                part = [image[:, start : start + width] for image in images]
                yield *part, *(row[: part[0].size].reshape(part[0].shape) for row in space)

    def sum_around(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        """Writes for each channel the sum over the channels around it."""
        out[...] = values
        for distance in range(1, self.half + 1):
            out[distance:] += values[:-distance]
            out[:-distance] += values[distance:]

    def scale(self, x: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
        """Writes what is raised to a power, and the factor of x that comes of it."""
        np.square(x, out=out)
        self.sum_around(out, out=base)
        base *= self.alpha
        base += self.k
        np.power(base, -self.beta, out=out)


class LocalResponse(FunctionNode):
    """Forward; keeps its input alone."""

    def __init__(self, n: int, k: float, alpha: float, beta: float):
        self._parts = _Parts(n, k, alpha, beta)

    def forward_cpu(self, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        self.retain_inputs((0,))
        x = np.ascontiguousarray(inputs[0])
        y = np.empty_like(x)
        for some, result, base, scale, _ in self._parts.split(x, y):
            self._parts.scale(some, base, out=scale)
            np.multiply(some, scale, out=result)
        return (y,)

    def backward(self, indexes: tuple[int, ...], gradients: Any) -> Any:
        (x,) = self.get_retained_inputs()
        return LocalResponseGrad(self._parts).apply((x, *gradients))


class LocalResponseGrad(FunctionNode):
    """Backward; cannot be differentiated again, as Chainer's cannot."""

    def __init__(self, parts: _Parts):
        self._parts = parts

    def forward_cpu(self, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        x, gy = (np.ascontiguousarray(array) for array in inputs)
        gx = np.empty_like(x)
        parts = self._parts
        factor = 2 * parts.alpha * parts.beta
        for some, gradient, result, base, scale, work in parts.split(x, gy, gx):
            parts.scale(some, base, out=scale)
            np.multiply(some, scale, out=work)
            work *= gradient
            work /= base
            parts.sum_around(work, out=base)
            np.multiply(gradient, scale, out=result)
            np.multiply(some, factor, out=work)
            work *= base
            result -= work
        return (gx,)
