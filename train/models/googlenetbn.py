"""GoogLeNet with batch normalization, after Ioffe and Szegedy, "Batch Normalization", 2015."""

from functools import partial

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable
from chainer.initializers import HeNormal

from swapmem.chainer.segments import segment
from train.models.layers import NormalizedConvolution, averaged, averaged_to
from train.models.network import AuxiliaryNetwork
from train.models.pooling import max_pooling_2d

#: Each auxiliary classifier averages its map down to this height and width.
_AUXILIARY_MAP = 4


class GoogLeNetBN(AuxiliaryNetwork):
    """Ten inception modules, two of which halve the map, and three classifiers.

    11,281,000 parameters at 1000 classes without the auxiliary classifiers. The final average
    covers the whole map and the auxiliary ones cover theirs by 4 x 4 windows, so the parameters
    are the same for every insize; at 224 the windows are 5 x 5 with stride 3.
    """

    title = "GoogLeNet-BN"
    smallest_insize = 49
    needs = f"its auxiliary classifiers need maps of at least {_AUXILIARY_MAP} x {_AUXILIARY_MAP}"

    def __init__(self, insize: int = 224, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.conv1 = NormalizedConvolution(3, 64, 7, stride=2, pad=3)
            self.conv2 = NormalizedConvolution(64, 192, 3, pad=1)
            self.inc3a = _inception(192, 64, 64, 64, 64, 96, "avg", 32)
            self.inc3b = _inception(256, 64, 64, 96, 64, 96, "avg", 64)
            self.inc3c = _halving_inception(320, 128, 160, 64, 96)
            self.inc4a = _inception(576, 224, 64, 96, 96, 128, "avg", 128)
            self.inc4b = _inception(576, 192, 96, 128, 96, 128, "avg", 128)
            self.inc4c = _inception(576, 160, 128, 160, 128, 160, "avg", 128)
            self.inc4d = _inception(608, 96, 128, 192, 160, 192, "avg", 128)
            self.inc4e = _halving_inception(608, 128, 192, 192, 256)
            self.inc5a = _inception(1056, 352, 192, 320, 160, 224, "avg", 128)
            self.inc5b = _inception(1024, 352, 192, 320, 192, 224, "max", 128)
            self.classifier = L.Linear(1024, classes)
            self.auxiliary1 = _Auxiliary(576, classes)
            self.auxiliary2 = _Auxiliary(608, classes)

    def classify(self, x: Variable) -> tuple[Variable, Variable, Variable]:
        h = segment("conv1", partial(_reduced, self.conv1), x)
        h = segment("conv2", partial(_reduced, self.conv2), h)
        h = segment("inc3a", self.inc3a, h)
        h = segment("inc3b", self.inc3b, h)
        h = segment("inc3c", self.inc3c, h)
        h = segment("inc4a", self.inc4a, h)
        y1 = segment("auxiliary1", self.auxiliary1, h)
        h = segment("inc4b", self.inc4b, h)
        h = segment("inc4c", self.inc4c, h)
        h = segment("inc4d", self.inc4d, h)
        y2 = segment("auxiliary2", self.auxiliary2, h)
        h = segment("inc4e", self.inc4e, h)
        h = segment("inc5a", self.inc5a, h)
        h = segment("inc5b", self.inc5b, h)
        return self.classifier(averaged(h)), y1, y2


class _Auxiliary(chainer.Chain):
    """A classifier on the way: average to 4 x 4, a 1 x 1 convolution, two linear layers."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        with self.init_scope():
            self.reduce = NormalizedConvolution(channels, 128, 1)
            self.hidden = L.Linear(128 * _AUXILIARY_MAP**2, 1024, nobias=True, initialW=HeNormal())
            self.norm = L.BatchNormalization(1024)
            self.classifier = L.Linear(1024, classes)

    def forward(self, x: Variable) -> Variable:
        h = F.relu(self.reduce(averaged_to(x, _AUXILIARY_MAP)))
        return self.classifier(F.relu(self.norm(self.hidden(h))))


def _inception(channels: int, *widths: int | str) -> L.InceptionBN:
    """Widths: 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pooling, its projection."""
    return L.InceptionBN(channels, *widths, conv_init=HeNormal())


def _halving_inception(channels: int, *widths: int) -> L.InceptionBN:
    """Widths: 3x3 reduce, 3x3, double 3x3 reduce, double 3x3; the pooling is not projected."""
    return L.InceptionBN(channels, 0, *widths, "max", stride=2, conv_init=HeNormal())


def _reduced(convolution: NormalizedConvolution, x: Variable) -> Variable:
    return max_pooling_2d(F.relu(convolution(x)), 3, stride=2, pad=1, cover_all=False)
