"""How many images a network puts in the right class, or among its five best guesses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chainer

from train.batches import SweepBatches


@dataclass(frozen=True)
class Accuracy:
    """Parts of the images, from 0 to 1.

    Attributes:
        top1: With the right class first.
        top5: With the right class among the first five.
        images: How many images there were.
    """

    top1: float
    top5: float
    images: int


def accuracy(predict: Callable[[Any], Any], batches: SweepBatches, device: Any) -> Accuracy:
    """Counts the hits over all images.

    Args:
        predict: Takes float32 (n, 3, insize, insize), returns a Variable of scores (n, classes).
        batches: Batches of one sweep.
        device: Where `predict` wants its images.
    """
    hits1 = hits5 = images = 0
    batches.reset()
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        for batch in batches:
            pixels, labels = chainer.dataset.concat_examples(batch, device)
            scores = predict(pixels).array
            own = scores[device.xp.arange(len(labels)), labels]
            # Equal scores count against it: a network that says the same of all knows nothing.
            better = (scores >= own[:, None]).sum(axis=1) - 1
            hits1 += int((better < 1).sum())
            hits5 += int((better < 5).sum())
            images += len(labels)
    return Accuracy(hits1 / images, hits5 / images, images)
