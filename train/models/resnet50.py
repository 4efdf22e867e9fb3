"""ResNet-50, after He et al., "Deep Residual Learning for Image Recognition", 2015."""

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable

from swapmem.chainer.segments import segment
from train.models.layers import NormalizedConvolution, averaged
from train.models.network import Network
from train.models.pooling import max_pooling_2d

#: The three convolutions of a block.
Convolutions = tuple[chainer.Link, chainer.Link, chainer.Link]


class ResNet50(Network):
    """A convolution, sixteen bottleneck blocks in four stages, and a classifier.

    25,557,032 parameters at 1000 classes: the convolutions have no bias, because the batch
    normalization after each has one. A stage halves the map in its first 1 x 1 convolution, as in
    the paper. The final average covers the whole map, so the parameters are the same for every
    insize.
    """

    title = "ResNet-50"
    smallest_insize = 3
    needs = "below this nothing is left of the image after the first pooling"

    def __init__(self, insize: int = 224, classes: int = 1000):
        super().__init__(insize, classes)
        with self.init_scope():
            self.conv1 = NormalizedConvolution(3, 64, 7, stride=2, pad=3)
            self.stage2 = self._stage(3, 64, 256, stride=1)
            self.stage3 = self._stage(4, 256, 512, stride=2)
            self.stage4 = self._stage(6, 512, 1024, stride=2)
            self.stage5 = self._stage(3, 1024, 2048, stride=2)
            self.classifier = L.Linear(2048, classes)

    def predict(self, x: Variable) -> Variable:
        h = segment("conv1", self._first, x)
        for stage in ("stage2", "stage3", "stage4", "stage5"):
            for index, block in enumerate(self[stage]):
                h = segment(f"{stage}.{index}", block, h)
        return self.classifier(averaged(h))

    def _first(self, x: Variable) -> Variable:
        return max_pooling_2d(F.relu(self.conv1(x)), 3, stride=2)

    @classmethod
    def _stage(cls, blocks: int, channels: int, out: int, stride: int) -> chainer.Sequential:
        first = _ProjectedBottleneck(
            *cls._convolutions(channels, out, stride),
            NormalizedConvolution(channels, out, 1, stride),
        )
        return chainer.Sequential(
            first,
            *(_Bottleneck(*cls._convolutions(out, out, stride=1)) for _ in range(blocks - 1)),
        )

    @staticmethod
    def _convolutions(channels: int, out: int, stride: int) -> Convolutions:
        """Returns the convolutions of a block: 1 x 1 down to a quarter, 3 x 3, 1 x 1 up."""
        width = out // 4
        return (
            NormalizedConvolution(channels, width, 1, stride),
            NormalizedConvolution(width, width, 3, pad=1),
            NormalizedConvolution(width, out, 1),
        )


class _Bottleneck(chainer.Chain):
    """Three convolutions, added to the input."""

    def __init__(self, down: chainer.Link, middle: chainer.Link, up: chainer.Link):
        super().__init__()
        with self.init_scope():
            self.down = down
            self.middle = middle
            self.up = up

    def forward(self, x: Variable) -> Variable:
        return F.relu(self._residual(x) + x)

    def _residual(self, x: Variable) -> Variable:
        return self.up(F.relu(self.middle(F.relu(self.down(x)))))


class _ProjectedBottleneck(_Bottleneck):
    """The first of a stage: the input is projected to the new width and map size."""

    def __init__(
        self,
        down: chainer.Link,
        middle: chainer.Link,
        up: chainer.Link,
        projection: chainer.Link,
    ):
        super().__init__(down, middle, up)
        with self.init_scope():
            self.projection = projection

    def forward(self, x: Variable) -> Variable:
        return F.relu(self._residual(x) + self.projection(x))
