"""Which convolutions and poolings are done in parts on NumPy, and how large the parts are.

Chainer's write out all windows of their input, as columns of one array: as many times as large as
the input as windows overlap, and copied once or twice more. That decided how small a budget can be.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from chainer.utils.conv import get_conv_outsize

#: Columns of more bytes are not made at once. With fewer Chainer's functions need less than what
#: large images need anyway, and all that smaller images give stays Chainer's, to the last bit.
LARGEST_COLUMNS_BYTES = 256 << 20

#: What is made of a part at once: enough for matrix products at full speed, and little to hold.
PART_BYTES = 16 << 20

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Where on an array (batch, channels, height, width) windows lie.

    Attributes:
        kernel: Height and width of a window.
        stride: Pixels from one window to the next, down and across.
        pad: Pixels around the image, above and below, left and right.
        cover_all: Whether windows begin until all pixels are in one, or end with the last pixel.
        dilate: Pixels from one value of a window to the next, down and across.

    Example:
        >>> Windows((3, 3), (2, 2), (1, 1), cover_all=False).count((1, 64, 112, 112))
        (56, 56)
    """

    kernel: Pair
    stride: Pair
    pad: Pair
    cover_all: bool
    dilate: Pair = (1, 1)

    def count(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns how many windows an array of a shape has, down and across."""
        # Not strict: of other shapes Chainer's functions complain.
        sides = zip(shape[2:], self.kernel, self.stride, self.pad, self.dilate, strict=False)
        return tuple(
            int(get_conv_outsize(size, kernel, stride, pad, self.cover_all, dilate))
            for size, kernel, stride, pad, dilate in sides
        )

    def need_parts(self, array: Any) -> bool:
        """Whether an array is one of NumPy's and has more columns than are made at once."""
        if not isinstance(array, np.ndarray):
            return False
        columns = math.prod((*array.shape[:2], *self.kernel, *self.count(array.shape)))
        return columns * array.itemsize > LARGEST_COLUMNS_BYTES
