"""ResNeXt-50 (32 x 4d), after Xie et al., "Aggregated Residual Transformations", 2016."""

from train.models.layers import NormalizedConvolution
from train.models.resnet50 import Convolutions, ResNet50


class ResNeXt50(ResNet50):
    """ResNet-50 with blocks twice as wide inside, whose 3 x 3 convolution works in 32 groups.

    25,028,904 parameters at 1000 classes. A stage halves the map in its first 3 x 3 convolution,
    as in the paper. Image sizes, errors and use are those of :class:`ResNet50`.
    """

    title = "ResNeXt-50"

    @staticmethod
    def _convolutions(channels: int, out: int, stride: int) -> Convolutions:
        """Returns the convolutions of a block: 1 x 1 down to a half, 3 x 3 in groups, 1 x 1 up."""
        width = out // 2
        return (
            NormalizedConvolution(channels, width, 1),
            NormalizedConvolution(width, width, 3, stride, pad=1, groups=32),
            NormalizedConvolution(width, out, 1),
        )
