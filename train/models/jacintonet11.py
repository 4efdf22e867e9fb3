"""JacintoNet11 (v2), the low-complexity network of Texas Instruments' caffe-jacinto."""

from functools import partial

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable

from swapmem.chainer.segments import segment
from train.models.layers import NormalizedConvolution, averaged
from train.models.network import Network
from train.models.pooling import max_pooling_2d


class JacintoNet11(Network):
    """Ten convolutions in five stages, each halving the map, and a classifier.

    In every stage the first convolution widens and the second works in four groups. Each is
    followed by batch normalization and ReLU; there are no shortcuts. 2,354,784 weights of
    convolutions and 512,000 of the classifier at 1000 classes, for every insize, since the final
    average covers the whole map. The published network subtracts 128 in a layer of its own; here
    that is the data's mean image.
    """

    title = "JacintoNet11"
    smallest_insize = 1
    needs = "there must be an image"

    def __init__(self, insize: int = 224, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.conv1a = _layer(3, 32, 5, stride=2, pad=2)
            self.conv1b = _layer(32, 32, 3, pad=1, groups=4)
            self.res2a_branch2a = _layer(32, 64, 3, pad=1)
            self.res2a_branch2b = _layer(64, 64, 3, pad=1, groups=4)
            self.res3a_branch2a = _layer(64, 128, 3, pad=1)
            self.res3a_branch2b = _layer(128, 128, 3, pad=1, groups=4)
            self.res4a_branch2a = _layer(128, 256, 3, pad=1)
            self.res4a_branch2b = _layer(256, 256, 3, pad=1, groups=4)
            self.res5a_branch2a = _layer(256, 512, 3, pad=1)
            self.res5a_branch2b = _layer(512, 512, 3, pad=1, groups=4)
            self.fc1000 = L.Linear(512, classes)

    def predict(self, x: Variable) -> Variable:
        h = segment("stage1", partial(_halved, self.conv1a, self.conv1b), x)
        h = segment("stage2", partial(_halved, self.res2a_branch2a, self.res2a_branch2b), h)
        h = segment("stage3", partial(_halved, self.res3a_branch2a, self.res3a_branch2b), h)
        h = segment("stage4", partial(_halved, self.res4a_branch2a, self.res4a_branch2b), h)
        h = self.res5a_branch2b(self.res5a_branch2a(h))
        return self.fc1000(averaged(h))


class _Layer(NormalizedConvolution):
    """A convolution with bias, batch normalization, ReLU."""

    def forward(self, x: Variable) -> Variable:
        return F.relu(super().forward(x))


def _halved(first: chainer.Link, second: chainer.Link, x: Variable) -> Variable:
    return max_pooling_2d(second(first(x)), 2)


def _layer(channels: int, out: int, kernel: int, **geometry: int) -> chainer.Chain:
    norm = {"decay": 0.99, "eps": 1e-4}
    return _Layer(channels, out, kernel, bias=True, norm=norm, **geometry)
