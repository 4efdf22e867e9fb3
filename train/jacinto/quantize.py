"""The network in whole numbers of few bits, simulated in floating point."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import chainer
import chainer.links as L
from chainer import link_hooks  # noqa: F401  chainer.LinkHook is only there with it
from numpy.typing import NDArray

from train.models.layers import NormalizedConvolution

_INPUT = "input"


@dataclass(frozen=True)
class Bits:
    """How many bits each kind of number has.

    Attributes:
        weights: Of weights, with sign.
        activations: Of what goes from layer to layer; without sign, as it comes from ReLU.
        biases: Of biases, with sign.
    """

    weights: int = 12
    activations: int = 8
    biases: int = 16


def rounded(values: Any, bits: int, largest: float, signed: bool = True) -> Any:
    """Returns values as whole multiples of a power of two, as few bits can hold them.

    Args:
        values: float32, NumPy or CuPy.
        bits: Of the whole number.
        largest: The largest absolute value to hold; larger ones are cut to it, about.
        signed: Whether one of the bits is the sign; without, negative values become 0.

    Example:
        >>> rounded(np.float32([0.3, -0.3, 9.0]), 3, largest=1.0)
        array([ 0.5, -0.5,  1.5], dtype=float32)
    """
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    step = 2.0 ** math.ceil(math.log2(largest / top)) if largest > 0 else 1.0
    # rint rounds halves to even numbers, which moves the mean by nothing.
    return ((values / step).round().clip(-top - 1 if signed else 0, top) * step).astype(
        values.dtype
    )


def merged(model: chainer.Chain) -> chainer.Chain:
    """Returns a copy whose normalizations do nothing, their work done by the convolutions.

    Args:
        model: A network whose normalizations stand in a ``NormalizedConvolution`` with bias.

    Returns:
        The copy; it scores images as `model` does when it is not training.
    """
    model = copy.deepcopy(model)
    for _, pair in _pairs(model):
        conv, norm = pair.conv, pair.norm
        scale = norm.gamma.array / (norm.avg_var + norm.eps) ** 0.5
        conv.W.array *= scale[:, None, None, None]
        conv.b.array = (conv.b.array - norm.avg_mean) * scale + norm.beta.array
        norm.gamma.array[:] = 1
        norm.beta.array[:] = 0
        norm.avg_mean[:] = 0
        norm.avg_var[:] = 1 - norm.eps
    return model


class Quantized:
    """A network in whole numbers, which scores images as the original does.

    Args:
        model: The network; it is not changed.
        examples: Batches of images, float32 (n, 3, insize, insize), that show how large the
            numbers between the layers get.
        bits: Of the numbers.

    Attributes:
        model: A copy of the network with rounded weights.
    """

    def __init__(
        self, model: chainer.Chain, examples: Iterable[NDArray[Any]], bits: Bits | None = None
    ):
        self._bits = bits or Bits()
        self.model = merged(model)
        self._largest: dict[str, float] = {}
        for images in examples:
            self._measure(images)
        for _, link in self.model.namedlinks():
            if isinstance(link, L.Convolution2D | L.Linear):
                _round_parameter(link.W, self._bits.weights)
                _round_parameter(link.b, self._bits.biases)

    def predict(self, images: Any) -> chainer.Variable:
        """Returns the scores of the classes.

        Args:
            images: float32, (n, 3, insize, insize).

        Returns:
            float32, (n, classes).
        """
        bits = self._bits.activations

        def quantize(name: str, array: Any) -> None:
            array[...] = rounded(array, bits, self._largest[name], signed=False)

        largest = self._largest[_INPUT]
        with self._between_layers(quantize):
            return self.model.predict(rounded(images, bits, largest))

    def _measure(self, images: Any) -> None:
        def measure(name: str, array: Any) -> None:
            self._largest[name] = max(self._largest.get(name, 0.0), float(array.max()))

        measure(_INPUT, abs(images))
        with self._between_layers(measure):
            self.model.predict(images)

    @contextmanager
    def _between_layers(self, act: Callable[[str, Any], None]) -> Iterator[None]:
        names = {id(pair.norm): name for name, pair in _pairs(self.model)}
        hook = _AfterNormalization(names, act)
        with chainer.using_config("train", False), chainer.no_backprop_mode(), hook:
            yield


class _AfterNormalization(chainer.LinkHook):
    """Does something with what each normalization returns; ReLU takes it from there."""

    name = "AfterNormalization"

    def __init__(self, names: dict[int, str], act: Callable[[str, Any], None]):
        super().__init__()
        self._names = names
        self._act = act

    def forward_postprocess(self, args: Any) -> None:
        name = self._names.get(id(args.link))
        if name is not None:
            self._act(name, args.out.array)


def _pairs(model: chainer.Chain) -> Iterator[tuple[str, NormalizedConvolution]]:
    for name, link in model.namedlinks():
        if isinstance(link, NormalizedConvolution):
            yield name, link


def _round_parameter(parameter: chainer.Parameter, bits: int) -> None:
    largest = float(abs(parameter.array).max())
    parameter.array[...] = rounded(parameter.array, bits, largest)
