"""Calls of Chainer's functions and links, with arrays large enough to be blocks.

Each case makes, when called, a tuple: a callable and its arrays. Floating-point arrays are to
become variables. The smallest block has 64 KiB: 16,384 values of float32. The cases themselves
stand in the modules that fill this table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chainer
import numpy as np

F = chainer.functions
L = chainer.links

IMAGES = (4, 16, 16, 32)
VECTORS = (64, 512)
MATRICES = (64, 24, 24)
VOLUMES = (2, 8, 8, 16, 16)
SIGNALS = (4, 16, 512)

rng = np.random.default_rng(0)
CASES: dict[str, Callable[[], tuple[Any, ...]]] = {}


def floats(*shape: int) -> np.ndarray:
    """Values well inside (0, 1), where nearly every function is defined."""
    return rng.uniform(0.1, 0.9, shape).astype(np.float32)


def ints(high: int, *shape: int) -> np.ndarray:
    return rng.integers(0, high, shape).astype(np.int32)


def booleans(*shape: int) -> np.ndarray:
    return rng.integers(0, 2, shape).astype(bool)


def case(name: str, make: Callable[[], tuple[Any, ...]]) -> None:
    assert name not in CASES, name
    CASES[name] = make


def plain(names: str, *shapes: tuple[int, ...]) -> None:
    """One case for each function that takes nothing but float arrays of these shapes."""
    for name in names.split():
        function = getattr(F, name)
        case(name, lambda function=function: (function, *(floats(*shape) for shape in shapes)))


def link(name: str, make: Callable[[], Any], *shapes: tuple[int, ...]) -> None:
    """One case for a link that takes float arrays of these shapes."""
    case(f"L.{name}", lambda: (make(), *(floats(*shape) for shape in shapes)))


# What Chainer itself cannot differentiate twice, or not with some inputs left out of the graph.
WITHOUT_DOUBLE_BACKWARD = frozenset(
    {
        "L.Bilinear",
        "L.DeformableConvolution2D",
        "L.EmbedID",
        "L.NegativeSampling",
        "L.PReLU",
        "as_strided",
        "connectionist_temporal_classification",
        "decorrelated_batch_normalization",
        "deformable_convolution_2d_sampler",
        "fixed_decorrelated_batch_normalization",
        "forget",
        "local_response_normalization",
        "roi_pooling_2d",
        "softmax_cross_entropy",
        "softmax_cross_entropy images",
    }
)
