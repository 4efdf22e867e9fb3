"""ResNet-10, after Simon et al., "ImageNet pre-trained models with batch normalization", 2016."""

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable

from swapmem.chainer.segments import segment
from train.models.layers import NormalizedConvolution, averaged, convolution
from train.models.network import Network
from train.models.pooling import max_pooling_2d


class ResNet10(Network):
    """A convolution, four residual blocks normalized before they convolve, and a classifier.

    5,417,070 parameters at 1000 classes, for every insize, since the final average covers the
    whole map. As published, the images are normalized as well.
    """

    title = "ResNet-10"
    smallest_insize = 3
    needs = "below this nothing is left of the image after the first pooling"

    def __init__(self, insize: int = 224, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.data_norm = L.BatchNormalization(3)
            self.conv1 = NormalizedConvolution(3, 64, 7, stride=2, pad=3, bias=True)
            self.block2 = _FirstBlock(64)
            self.block3 = _HalvingBlock(64, 128)
            self.block4 = _HalvingBlock(128, 256)
            self.block5 = _HalvingBlock(256, 512)
            self.last_norm = L.BatchNormalization(512)
            self.classifier = L.Linear(512, classes)

    def predict(self, x: Variable) -> Variable:
        h = segment("conv1", self._first, x)
        h = segment("block2", self.block2, h)
        h = segment("block3", self.block3, h)
        h = segment("block4", self.block4, h)
        h = segment("block5", self.block5, h)
        return self.classifier(averaged(F.relu(self.last_norm(h))))

    def _first(self, x: Variable) -> Variable:
        return max_pooling_2d(F.relu(self.conv1(self.data_norm(x))), 3, stride=2)


class _FirstBlock(chainer.Chain):
    """Two 3 x 3 convolutions, added to the input, which is normalized already."""

    def __init__(self, width: int):
        super().__init__()
        with self.init_scope():
            self.conv1 = NormalizedConvolution(width, width, 3, pad=1)
            self.conv2 = convolution(width, width, 3, pad=1, nobias=True)

    def forward(self, x: Variable) -> Variable:
        return self.conv2(F.relu(self.conv1(x))) + x


class _HalvingBlock(chainer.Chain):
    """Normalizes, halves the map and widens by two 3 x 3 convolutions and by one of 1 x 1."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        with self.init_scope():
            self.norm = L.BatchNormalization(channels)
            self.conv1 = NormalizedConvolution(channels, out, 3, stride=2, pad=1)
            self.conv2 = convolution(out, out, 3, pad=1, nobias=True)
            self.projection = convolution(channels, out, 1, stride=2, nobias=True)

    def forward(self, x: Variable) -> Variable:
        h = F.relu(self.norm(x))
        return self.conv2(F.relu(self.conv1(h))) + self.projection(h)
