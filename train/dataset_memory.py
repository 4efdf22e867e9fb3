"""Memory for pixels, used again and again."""

import math
import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray


class Reused:
    """Makes arrays of one shape, each where an earlier one was that nobody has any more.

    The system takes back what a batch leaves behind, and clearing new pages for the next one costs
    more than filling them. So what was in use at one time is kept; it is ordinary memory, no
    manager's. Any number of threads may ask at once; a copy made by pickling begins with none.

    Args:
        shape: The shape of every array.

    Example:
        >>> Reused((3, 224, 224)).empty().nbytes
        602112
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self._bytes = 4 * math.prod(shape)
        self._free: deque[bytearray] = deque()

    def __reduce__(self) -> tuple[type["Reused"], tuple[tuple[int, ...]]]:
        return Reused, (self.shape,)

    def empty(self) -> NDArray[np.float32]:
        """Returns an array with anything in it; views of it keep its memory from being reused."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = bytearray(self._bytes)
        array = np.ndarray(self.shape, np.float32, memory)
        weakref.finalize(array, self._free.append, memory)
        return array
