"""Bytes that tell where they belong, to see that a copy brought the right ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_PIECE = (1 << 20) // 8


class WrongBytes(Exception):
    """Something came back other than it went: a bug, or a broken machine."""


class Pattern:
    """Random bytes that differ from one place and one turn to the next.

    Not on the arrays of a manager alone: run both methods where NumPy's own memory is used, as
    what they need for themselves would otherwise take part in what is measured.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._base = random.integers(1 << 63, size=_PIECE, dtype=np.uint64)
        self._scratch = np.empty_like(self._base)

    def fill(self, array: NDArray[np.uint64], turn: int, block: int = 0) -> None:
        """Writes what belongs into this block in this turn."""
        for piece, key in self._pieces(array, turn, block):
            np.add(self._base[: piece.size], key, out=piece)

    def check(self, array: NDArray[np.uint64], turn: int, block: int = 0) -> None:
        """Looks at every byte.

        Raises:
            WrongBytes: one of them is not what `fill` wrote.
        """
        for piece, key in self._pieces(array, turn, block):
            found = self._scratch[: piece.size]
            np.subtract(piece, key, out=found)
            if not np.array_equal(found, self._base[: piece.size]):
                raise WrongBytes(f"block {block} came back with other bytes in turn {turn}")

    @staticmethod
    def _pieces(
        array: NDArray[np.uint64], turn: int, block: int
    ) -> Iterator[tuple[NDArray[np.uint64], np.uint64]]:
        for index, start in enumerate(range(0, array.size, _PIECE)):
            yield array[start : start + _PIECE], np.uint64((turn << 40) + (block << 20) + index)
