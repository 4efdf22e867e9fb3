"""ResNet-50, after He et al., "Deep Residual Learning for Image Recognition", 2015."""

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Variable
from chainer.initializers import HeNormal


class ResNet50(chainer.Chain):
    """A convolution, sixteen bottleneck blocks in four stages, and a classifier.

    25,557,032 parameters at 1000 classes: the convolutions have no bias, because the batch
    normalization after each has one. A stage halves the map in its first 1 x 1 convolution, as in
    the paper. The final average covers the whole map, so the parameters are the same for every
    insize.

    Args:
        insize: Height and width of the images in pixels, at least :attr:`smallest_insize`.
        classes: Number of classes.

    Attributes:
        insize: As given.

    Raises:
        ValueError: `insize` is too small; names the sizes that are not.

    Example:
        >>> model = ResNet50(insize=448, classes=10)
        >>> loss = model(images, labels)  # float32 (n, 3, 448, 448), int32 (n,)
    """

    #: Below this nothing is left of the image after the first pooling.
    smallest_insize = 3

    def __init__(self, insize: int = 224, classes: int = 1000):
        if insize < self.smallest_insize:
            raise ValueError(
                f"ResNet-50 takes images of {self.smallest_insize} x {self.smallest_insize} "
                f"pixels and every larger size, not {insize}"
            )
        super().__init__()
        self.insize = insize
        with self.init_scope():
            self.conv1 = _NormalizedConvolution(3, 64, 7, stride=2, pad=3)
            self.stage2 = _stage(3, 64, 64, 256, stride=1)
            self.stage3 = _stage(4, 256, 128, 512, stride=2)
            self.stage4 = _stage(6, 512, 256, 1024, stride=2)
            self.stage5 = _stage(3, 1024, 512, 2048, stride=2)
            self.classifier = L.Linear(2048, classes)

    def forward(self, x: Variable, t: Variable) -> Variable:
        """Returns the loss, and reports it as ``loss`` and the share of hits as ``accuracy``.

        Args:
            x: float32, (n, 3, insize, insize).
            t: int32, (n,), the classes.

        Returns:
            float32, ().
        """
        y = self.predict(x)
        loss = F.softmax_cross_entropy(y, t)
        chainer.report({"loss": loss, "accuracy": F.accuracy(y, t)}, self)
        return loss

    def predict(self, x: Variable) -> Variable:
        """Returns the scores of the classes, before softmax.

        Args:
            x: float32, (n, 3, insize, insize).

        Returns:
            float32, (n, classes).
        """
        h = F.max_pooling_2d(F.relu(self.conv1(x)), 3, stride=2)
        h = self.stage5(self.stage4(self.stage3(self.stage2(h))))
        # Chainer pads by the stride: left to be the whole map's, it takes four times the memory.
        return self.classifier(F.average_pooling_2d(h, h.shape[2:], stride=1))


class _NormalizedConvolution(chainer.Chain):
    """A convolution without bias and the batch normalization after it."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, pad: int = 0):
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(
                channels, out, kernel, stride, pad, nobias=True, initialW=HeNormal()
            )
            self.norm = L.BatchNormalization(out)

    def forward(self, x: Variable) -> Variable:
        return self.norm(self.conv(x))


class _Bottleneck(chainer.Chain):
    """1 x 1 down to `width`, 3 x 3, 1 x 1 up to `out`, added to the input."""

    def __init__(self, channels: int, width: int, out: int, stride: int):
        super().__init__()
        with self.init_scope():
            self.down = _NormalizedConvolution(channels, width, 1, stride)
            self.middle = _NormalizedConvolution(width, width, 3, pad=1)
            self.up = _NormalizedConvolution(width, out, 1)

    def forward(self, x: Variable) -> Variable:
        return F.relu(self._residual(x) + x)

    def _residual(self, x: Variable) -> Variable:
        return self.up(F.relu(self.middle(F.relu(self.down(x)))))


class _ProjectedBottleneck(_Bottleneck):
    """The first of a stage: the input is projected to the new width and map size."""

    def __init__(self, channels: int, width: int, out: int, stride: int):
        super().__init__(channels, width, out, stride)
        with self.init_scope():
            self.projection = _NormalizedConvolution(channels, out, 1, stride)

    def forward(self, x: Variable) -> Variable:
        return F.relu(self._residual(x) + self.projection(x))


def _stage(blocks: int, channels: int, width: int, out: int, stride: int) -> chainer.Sequential:
    first = _ProjectedBottleneck(channels, width, out, stride)
    return chainer.Sequential(
        first, *(_Bottleneck(out, width, out, stride=1) for _ in range(blocks - 1))
    )
