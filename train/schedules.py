"""Learning rates over the training: each a function of what has been done, so that it resumes."""

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from chainer import training

from train.optimizers import set_rates


class Schedule(ABC):
    """What an optimizer's rates are at a point of the training."""

    @abstractmethod
    def rates(self, iteration: int, epoch: float) -> dict[str, float]:
        """Returns hyperparameters by name; "rate" is the learning rate, whatever it is called.

        Args:
            iteration: How many updates there have been.
            epoch: How many sweeps over the data, with the fraction.
        """


class Fixed(Schedule):
    """The same rate from beginning to end."""

    def __init__(self, base: float):
        self._base = base

    def rates(self, iteration: int, epoch: float) -> dict[str, float]:
        """Returns the rate."""
        return {"rate": self._base}


class Step(Schedule):
    """A rate that falls by a factor when epochs are over.

    Args:
        base: The rate of the first epochs.
        gamma: What it is multiplied by.
        every: It falls every so many epochs.
        at: It falls after each of these epochs; instead of `every`.

    Example:
        >>> Step(0.1, 0.5, every=30).rates(0, 65.2)
        {'rate': 0.025}
    """

    def __init__(
        self, base: float, gamma: float = 0.1, every: int | None = None, at: Sequence[int] = ()
    ):
        self._base = base
        self._gamma = gamma
        self._every = every
        self._at = sorted(at)

    def rates(self, iteration: int, epoch: float) -> dict[str, float]:
        """Returns the rate; it falls between the epochs, never within one."""
        whole = math.floor(epoch)
        steps = bisect.bisect_right(self._at, whole)
        if self._every is not None:
            steps += whole // self._every
        return {"rate": self._base * self._gamma**steps}


class Poly(Schedule):
    """A rate that falls to nothing: ``base (1 - iteration / iterations) ** power``.

    Args:
        base: The rate of the first iteration.
        iterations: It is 0 after so many.
        power: 1 for a straight line.

    Example:
        >>> Poly(0.1, 320_000).rates(160_000, 0)
        {'rate': 0.05}
    """

    def __init__(self, base: float, iterations: int, power: float = 1.0):
        self._base = base
        self._iterations = iterations
        self._power = power

    def rates(self, iteration: int, epoch: float) -> dict[str, float]:
        """Returns the rate; beyond the end it stays 0."""
        left = max(1 - iteration / self._iterations, 0.0)
        return {"rate": self._base * left**self._power}


class Warmup(Schedule):
    """From RMSprop to SGD: the schedule of "Extremely Large Minibatch SGD", Akiba et al., 2017.

    The share of SGD grows exponentially to 1/2 up to epoch 10, linearly to 1 up to 12.5; the rate
    falls at epochs 40, 70 and 85.

    Args:
        examples: Examples of an update, over all processes.
        base: The rate while it has not fallen; by default 0.1 for every 256 `examples`.
        rmsprop: What the RMSprop part moves a weight by, at most about.
    """

    def __init__(self, examples: int, base: float | None = None, rmsprop: float = 3e-4):
        self._base = 0.1 * examples / 256 if base is None else base
        self._rmsprop = rmsprop

    def rates(self, iteration: int, epoch: float) -> dict[str, float]:
        """Returns the rate and the shares ``a_sgd`` and ``a_rmsprop``."""
        factors = (0.5, 0.075, 0.01, 0.001)
        rate = self._base * factors[bisect.bisect_right((40, 70, 85), epoch)]
        if epoch < 10:
            a_sgd = math.exp(2 * (epoch - 10) / 5) / 2
        else:
            a_sgd = min(0.5 + (epoch - 10) / 5, 1.0)
        return {"rate": rate, "a_sgd": a_sgd, "a_rmsprop": (1 - a_sgd) * self._rmsprop / rate}


class Rate(training.Extension):
    """Sets an optimizer's rates before every update.

    It keeps no state: a run that is resumed has the rates of one that was not interrupted.

    Args:
        schedule: Tells the rates.
        bias_rate: Factor of the learning rate of biases.
    """

    trigger = 1, "iteration"
    # After what observes the rate: the log shows the one that the iteration had.
    priority = training.PRIORITY_READER - 10

    def __init__(self, schedule: Schedule, bias_rate: float = 1.0):
        self._schedule = schedule
        self._bias_rate = bias_rate

    def initialize(self, trainer: training.Trainer) -> None:
        """Sets the rates of the first update, or of the first after a snapshot."""
        self(trainer)

    def __call__(self, trainer: Any) -> None:
        """Sets the rates of the next update."""
        updater = trainer.updater
        rates = self._schedule.rates(updater.iteration, updater.epoch_detail)
        set_rates(updater.get_optimizer("main"), rates, self._bias_rate)
