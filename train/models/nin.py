"""Network in Network, after Lin et al., 2013, in its form for ImageNet."""

from functools import partial

import chainer.functions as F
import chainer.links as L
from chainer import Variable
from chainer.initializers import HeNormal

from swapmem.chainer.segments import segment
from train.models.layers import averaged
from train.models.network import Network


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
            self.mlpconv1 = _layers(3, (96, 96, 96), 11, stride=4)
            self.mlpconv2 = _layers(96, (256, 256, 256), 5, pad=2)
            self.mlpconv3 = _layers(256, (384, 384, 384), 3, pad=1)
            self.mlpconv4 = _layers(384, (1024, 1024, classes), 3, pad=1)

    def predict(self, x: Variable) -> Variable:
        h = segment("mlpconv1", partial(_halved, self.mlpconv1), x)
        h = segment("mlpconv2", partial(_halved, self.mlpconv2), h)
        h = segment("mlpconv3", partial(_halved, self.mlpconv3), h)
        h = averaged(self.mlpconv4(F.dropout(h)))
        return F.reshape(h, h.shape[:2])


def _halved(layers: L.MLPConvolution2D, x: Variable) -> Variable:
    return F.max_pooling_2d(F.relu(layers(x)), 3, stride=2)


def _layers(
    channels: int, widths: tuple[int, ...], kernel: int, **geometry: int
) -> L.MLPConvolution2D:
    return L.MLPConvolution2D(channels, widths, kernel, conv_init=HeNormal(), **geometry)
