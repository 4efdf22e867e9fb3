"""GoogLeNet, after Szegedy et al., "Going Deeper with Convolutions", 2014."""

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable
from chainer.initializers import HeNormal

from swapmem.chainer.segments import segment
from train.models.layers import averaged, averaged_to, convolution
from train.models.local_response import local_response_normalization
from train.models.network import AuxiliaryNetwork
from train.models.pooling import max_pooling_2d

#: Each auxiliary classifier averages its map down to this height and width.
_AUXILIARY_MAP = 4


class GoogLeNet(AuxiliaryNetwork):
    """Nine inception modules, a classifier at the end and two on the way.

    6,998,552 parameters at 1000 classes without the auxiliary classifiers, 13,378,280 with them.
    The final average covers the whole map and the auxiliary ones cover theirs by 4 x 4 windows,
    so the parameters are the same for every insize; at 224 the windows are the paper's 5 x 5
    with stride 3.
    """

    title = "GoogLeNet"
    smallest_insize = 63
    needs = f"its auxiliary classifiers need maps of at least {_AUXILIARY_MAP} x {_AUXILIARY_MAP}"

    def __init__(self, insize: int = 224, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.conv1 = convolution(3, 64, 7, stride=2, pad=3)
            self.conv2_reduce = convolution(64, 64, 1)
            self.conv2 = convolution(64, 192, 3, pad=1)
            self.inc3a = _Inception(192, 64, 96, 128, 16, 32, 32)
            self.inc3b = _Inception(256, 128, 128, 192, 32, 96, 64)
            self.inc4a = _Inception(480, 192, 96, 208, 16, 48, 64)
            self.inc4b = _Inception(512, 160, 112, 224, 24, 64, 64)
            self.inc4c = _Inception(512, 128, 128, 256, 24, 64, 64)
            self.inc4d = _Inception(512, 112, 144, 288, 32, 64, 64)
            self.inc4e = _Inception(528, 256, 160, 320, 32, 128, 128)
            self.inc5a = _Inception(832, 256, 160, 320, 32, 128, 128)
            self.inc5b = _Inception(832, 384, 192, 384, 48, 128, 128)
            self.classifier = L.Linear(1024, classes)
            self.auxiliary1 = _Auxiliary(512, classes)
            self.auxiliary2 = _Auxiliary(528, classes)

    def classify(self, x: Variable) -> tuple[Variable, Variable, Variable]:
        h = segment("conv1", self._first, x)
        h = segment("conv2", self._second, h)
        h = _halved(self._modules(h, "inc3a", "inc3b"))
        h = self._modules(h, "inc4a")
        y1 = segment("auxiliary1", self.auxiliary1, h)
        h = self._modules(h, "inc4b", "inc4c", "inc4d")
        y2 = segment("auxiliary2", self.auxiliary2, h)
        h = _halved(self._modules(h, "inc4e"))
        h = self._modules(h, "inc5a", "inc5b")
        return self.classifier(F.dropout(averaged(h), 0.4)), y1, y2

    def _first(self, x: Variable) -> Variable:
        return local_response_normalization(_halved(F.relu(self.conv1(x))), n=5)

    def _second(self, x: Variable) -> Variable:
        h = F.relu(self.conv2(F.relu(self.conv2_reduce(x))))
        return _halved(local_response_normalization(h, n=5))

    def _modules(self, x: Variable, *names: str) -> Variable:
        for name in names:
            x = segment(name, self[name], x)
        return x


class _Inception(chainer.Chain):
    """Four ways side by side; Chainer's link of this name, with all of it in parts.

    Args:
        channels: Of the input.
        out1: Channels of the 1 x 1 convolution.
        proj3: Channels to which the input of the 3 x 3 convolution is reduced.
        out3: Channels of the 3 x 3 convolution.
        proj5: Channels to which the input of the 5 x 5 convolution is reduced.
        out5: Channels of the 5 x 5 convolution.
        pooled: Channels to which the pooling is projected.
    """

    def __init__(
        self, channels: int, out1: int, proj3: int, out3: int, proj5: int, out5: int, pooled: int
    ):
        super().__init__()
        with self.init_scope():
            self.conv1 = convolution(channels, out1, 1)
            self.proj3 = convolution(channels, proj3, 1)
            self.conv3 = convolution(proj3, out3, 3, pad=1)
            self.proj5 = convolution(channels, proj5, 1)
            self.conv5 = convolution(proj5, out5, 5, pad=2)
            self.projp = convolution(channels, pooled, 1)

    def forward(self, x: Variable) -> Variable:
        out1 = self.conv1(x)
        out3 = self.conv3(F.relu(self.proj3(x)))
        out5 = self.conv5(F.relu(self.proj5(x)))
        pooled = self.projp(max_pooling_2d(x, 3, stride=1, pad=1))
        return F.relu(F.concat((out1, out3, out5, pooled)))


class _Auxiliary(chainer.Chain):
    """A classifier on the way: average to 4 x 4, a 1 x 1 convolution, two linear layers."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        with self.init_scope():
            self.reduce = convolution(channels, 128, 1)
            self.hidden = L.Linear(128 * _AUXILIARY_MAP**2, 1024, initialW=HeNormal())
            self.classifier = L.Linear(1024, classes)

    def forward(self, x: Variable) -> Variable:
        h = averaged_to(x, _AUXILIARY_MAP)
        h = F.relu(self.hidden(F.relu(self.reduce(h))))
        return self.classifier(F.dropout(h, 0.7))


def _halved(x: Variable) -> Variable:
    return max_pooling_2d(x, 3, stride=2)
