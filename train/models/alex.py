"""AlexNet, after Krizhevsky et al., "ImageNet Classification with Deep ... Networks", 2012."""

from functools import partial

import chainer.functions as F
import chainer.links as L
from chainer import Variable
from chainer.initializers import HeNormal

from swapmem.chainer.segments import segment
from train.models.layers import averaged_to, convolution
from train.models.local_response import local_response_normalization
from train.models.network import Network
from train.models.pooling import max_pooling_2d

#: The map before the linear layers is averaged to this height and width.
_LAST_MAP = 6


class Alex(Network):
    """Five convolutions, three of them in two groups as published, and three linear layers.

    60,965,224 parameters at 1000 classes. The last map is averaged down to 6 x 6, so they are the
    same for every insize; at 227 it is 6 x 6 already.
    """

    title = "AlexNet"
    default_insize = 227
    smallest_insize = 199
    needs = f"its linear layers need a map of at least {_LAST_MAP} x {_LAST_MAP}"

    def __init__(self, insize: int = 227, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.conv1 = convolution(3, 96, 11, stride=4)
            self.conv2 = convolution(96, 256, 5, pad=2, groups=2)
            self.conv3 = convolution(256, 384, 3, pad=1)
            self.conv4 = convolution(384, 384, 3, pad=1, groups=2)
            self.conv5 = convolution(384, 256, 3, pad=1, groups=2)
            self.fc6 = L.Linear(256 * _LAST_MAP**2, 4096, initialW=HeNormal())
            self.fc7 = L.Linear(4096, 4096, initialW=HeNormal())
            self.fc8 = L.Linear(4096, classes)

    def predict(self, x: Variable) -> Variable:
        h = segment("group1", partial(_normalized, self.conv1), x)
        h = segment("group2", partial(_normalized, self.conv2), h)
        h = segment("group3", self._group3, h)
        h = F.dropout(F.relu(self.fc6(averaged_to(h, _LAST_MAP))))
        return self.fc8(F.dropout(F.relu(self.fc7(h))))

    def _group3(self, x: Variable) -> Variable:
        h = F.relu(self.conv4(F.relu(self.conv3(x))))
        return _halved(F.relu(self.conv5(h)))


def _normalized(convolution: L.Convolution2D, x: Variable) -> Variable:
    return _halved(local_response_normalization(F.relu(convolution(x)), n=5))


def _halved(x: Variable) -> Variable:
    return max_pooling_2d(x, 3, stride=2)
