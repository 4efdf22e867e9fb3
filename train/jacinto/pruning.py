"""Which weights become zero, and how they stay so."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import chainer
import chainer.links as L
import numpy as np
from chainer import training

from train.jacinto.solver import Pruning

#: Weights this large are never removed,
_LARGE = 0.2
#: nor those above this part of their channel's largest.
_LARGE_PART = 0.2
#: Layers with fewer channels on a side lose half the share.
_FEW_CHANNELS = 32


@dataclass(frozen=True)
class LayerSparsity:
    """How much of a layer is zero.

    Attributes:
        name: The layer, as ``res2a_branch2a``.
        weights: How many weights it has.
        zeros: How many of them are zero.
        prunable: Whether weights of it are removed at all.
    """

    name: str
    weights: int
    zeros: int
    prunable: bool


def pruned_share(link: L.Convolution2D) -> float:
    """Returns which part of the network's share a convolution loses: 1, 1/2, or 0 for none.

    Windows of 1 and 2 pixels, convolutions of each channel by itself, and those with few channels
    on both sides stay whole.
    """
    outputs, of_a_group, *window = link.W.shape
    inputs = of_a_group * link.groups
    if min(window) <= 2 or link.groups >= outputs:
        return 0.0
    wide: int = (inputs >= _FEW_CHANNELS) + (outputs >= _FEW_CHANNELS)
    return float(wide) / 2


def small_weights(weights: Any, share: float) -> Any:
    """Tells the smallest weights of each output channel.

    In each channel that is everything up to a threshold T, the largest for which no more than
    `share` of the weights are within it, and which is below 0.2 and below a fifth of the channel's
    largest weight.

    Args:
        weights: float32, (outputs, inputs, height, width); NumPy or CuPy.
        share: From 0 to 1.

    Returns:
        bool, as `weights`.

    Example:
        >>> small_weights(np.array([[[[0.01, -0.02, 0.5, 1.0]]]]), 0.5)
        array([[[[ True,  True, False, False]]]])
    """
    xp = chainer.backend.get_array_module(weights)
    rows = abs(weights).reshape(len(weights), -1)
    # The small addition undoes what binary fractions lose: 0.29 of 100 are 29.
    count = int(share * rows.shape[1] + 1e-9)
    limit = xp.minimum(_LARGE, _LARGE_PART * rows.max(axis=1, keepdims=True))
    if count < rows.shape[1]:
        # The first that has to stay: what is smaller may go, and equal ones stay together.
        first_kept = xp.sort(rows, axis=1)[:, count : count + 1]
        small = (rows < first_kept) & (rows < limit)
    else:
        small = rows < limit
    return small.reshape(weights.shape)


def layers(model: chainer.Chain) -> Iterator[tuple[str, L.Convolution2D | L.Linear]]:
    """Yields every layer with weights, by its name in the model, the convolutions first."""
    for kind in (L.Convolution2D, L.Linear):
        for path, link in model.namedlinks():
            if isinstance(link, kind):
                yield path.removesuffix("/conv").strip("/"), link


def sparsity(model: chainer.Chain) -> list[LayerSparsity]:
    """Counts the zeros of every layer."""
    return [
        LayerSparsity(
            name,
            link.W.size,
            int(link.W.size - np.count_nonzero(chainer.cuda.to_cpu(link.W.array))),
            isinstance(link, L.Convolution2D) and pruned_share(link) > 0,
        )
        for name, link in layers(model)
    ]


def zero_share(found: list[LayerSparsity]) -> float:
    """Returns which part of the prunable layers' weights is zero."""
    prunable = [layer for layer in found if layer.prunable]
    return sum(layer.zeros for layer in prunable) / sum(layer.weights for layer in prunable)


class Pruner(training.Extension):
    """Removes weights as the training goes on, and keeps at zero what is.

    Removed weights still get gradients and momentum, but are zero again after every update. What is
    zero when the training begins stays so, unless nothing is.

    Args:
        model: The network, with the weights it begins with.
        pruning: What becomes zero when; None removes nothing more.
    """

    trigger = 1, "iteration"
    # Before everything else: whatever looks at the model sees it pruned.
    priority = training.PRIORITY_WRITER + 100

    def __init__(self, model: chainer.Chain, pruning: Pruning | None):
        self._pruning = pruning
        convolutions = [(n, link) for n, link in layers(model) if isinstance(link, L.Convolution2D)]
        self._weights = sum(link.W.size for _, link in convolutions)
        self._links = {name: link for name, link in convolutions if pruned_share(link) > 0}
        self._kept = {name: link.W.array != 0 for name, link in self._links.items()}

    def __call__(self, trainer: training.Trainer) -> None:
        """Removes what this update's step says, and everything that was removed before."""
        for name, link in self._links.items():
            link.W.array *= self._kept[name]
        if self._pruning is None:
            return
        share = self._pruning.share(trainer.updater.iteration)
        if share is None or self._removed_share() >= self._pruning.target:
            return
        for name, link in self._links.items():
            link.W.array[small_weights(link.W.array, share * pruned_share(link))] = 0
            self._kept[name] = link.W.array != 0

    def _removed_share(self) -> float:
        """Returns which part of all convolutions' weights is kept at zero."""
        removed = sum(kept.size - int(kept.sum()) for kept in self._kept.values())
        return float(removed / self._weights)

    def serialize(self, serializer: Any) -> None:
        """Saves or loads what is kept."""
        for name, kept in self._kept.items():
            self._kept[name] = serializer(f"kept/{name}", kept)
