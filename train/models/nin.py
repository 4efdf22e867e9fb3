"""Network in Network, after Lin et al., 2013, in its form for ImageNet."""

from functools import partial

import chainer
import chainer.functions as F
from chainer import Variable

from swapmem.chainer.segments import segment
from train.models.layers import averaged, convolution
from train.models.network import Network
from train.models.pooling import max_pooling_2d


class NIN(Network):
    """Four convolutions, each followed by two of 1 x 1; the last one's maps are the classes.

    7,595,176 parameters at 1000 classes, for every insize, since the final average covers the
    whole map.
    """

    title = "Network in Network"
    default_insize = 227
    smallest_insize = 39
    needs = "below this nothing is left of the image after the last pooling"

    def __init__(self, insize: int = 227, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.mlpconv1 = _Layers(3, (96, 96, 96), 11, stride=4)
            self.mlpconv2 = _Layers(96, (256, 256, 256), 5, pad=2)
            self.mlpconv3 = _Layers(256, (384, 384, 384), 3, pad=1)
            self.mlpconv4 = _Layers(384, (1024, 1024, classes), 3, pad=1)

    def predict(self, x: Variable) -> Variable:
        h = segment("mlpconv1", partial(_halved, self.mlpconv1), x)
        h = segment("mlpconv2", partial(_halved, self.mlpconv2), h)
        h = segment("mlpconv3", partial(_halved, self.mlpconv3), h)
        h = averaged(self.mlpconv4(F.dropout(h)))
        return F.reshape(h, h.shape[:2])


class _Layers(chainer.ChainList):
    """A convolution and two of 1 x 1, ReLU between; Chainer's link, with convolutions in parts."""

    def __init__(self, channels: int, widths: tuple[int, int, int], kernel: int, **geometry: int):
        first, second, third = widths
        super().__init__(
            convolution(channels, first, kernel, **geometry),
            convolution(first, second, 1),
            convolution(second, third, 1),
        )

    def forward(self, x: Variable) -> Variable:
        first, second, third = self
        return third(F.relu(second(F.relu(first(x)))))


def _halved(layers: chainer.Link, x: Variable) -> Variable:
    return max_pooling_2d(F.relu(layers(x)), 3, stride=2)
