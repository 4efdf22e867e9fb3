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
            self.inc3a = _inception(192, 64, 96, 128, 16, 32, 32)
            self.inc3b = _inception(256, 128, 128, 192, 32, 96, 64)
            self.inc4a = _inception(480, 192, 96, 208, 16, 48, 64)
            self.inc4b = _inception(512, 160, 112, 224, 24, 64, 64)
            self.inc4c = _inception(512, 128, 128, 256, 24, 64, 64)
            self.inc4d = _inception(512, 112, 144, 288, 32, 64, 64)
            self.inc4e = _inception(528, 256, 160, 320, 32, 128, 128)
            self.inc5a = _inception(832, 256, 160, 320, 32, 128, 128)
            self.inc5b = _inception(832, 384, 192, 384, 48, 128, 128)
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


def _inception(channels: int, *widths: int) -> L.Inception:
    """Widths as in the paper's table: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection."""
    return L.Inception(channels, *widths, conv_init=HeNormal())


def _halved(x: Variable) -> Variable:
    return F.max_pooling_2d(x, 3, stride=2)
