"""Layers that several of the networks are made of."""

from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable
from chainer.initializers import HeNormal

from swapmem.chainer.segments import segment
from train.models.convolution import Convolution2D


def convolution(channels: int, out: int, kernel: int, **geometry: int) -> Convolution2D:
    """Makes a convolution whose weights are drawn as He et al. propose; all networks' are."""
    return Convolution2D(channels, out, kernel, initialW=HeNormal(), **geometry)


class NormalizedConvolution(chainer.Chain):
    """A convolution and the batch normalization after it; a part under the name of the link.

    Args:
        channels: Of the input.
        out: Channels of the output.
        kernel: Height and width of the window.
        stride: Pixels from one window to the next.
        pad: Zeros around the input.
        groups: Parts that the channels are divided into, each with its own outputs.
        bias: Whether the convolution has a bias. The normalization takes it away again.
        norm: Further arguments of ``L.BatchNormalization``.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        bias: bool = False,
        norm: dict[str, Any] | None = None,
    ):
        super().__init__()
        with self.init_scope():
            self.conv = convolution(
                channels, out, kernel, stride=stride, pad=pad, nobias=not bias, groups=groups
            )
            self.norm = L.BatchNormalization(out, **(norm or {}))

    def forward(self, x: Variable) -> Variable:
        return segment(self.name or "normalized", self._normalized, x)

    def _normalized(self, x: Variable) -> Variable:
        return self.norm(self.conv(x))


def averaged(x: Variable) -> Variable:
    """Averages each channel's whole map: (n, c, h, w) to (n, c, 1, 1)."""
    # Chainer pads by the stride: left to be the whole map's, it takes four times the memory.
    return F.average_pooling_2d(x, x.shape[2:], stride=1)


def averaged_to(x: Variable, side: int) -> Variable:
    """Averages square maps, no smaller than `side`, by windows: (n, c, h, h) to (n, c, side, side).

    The windows are of one size and equally far apart; the last one ends with the map.
    """
    stride = x.shape[2] // side
    return F.average_pooling_2d(x, x.shape[2] - (side - 1) * stride, stride)
