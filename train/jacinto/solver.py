"""How each stage is trained: the published values, and the same scaled to a shorter run."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

#: The published length of a stage, in updates.
PUBLISHED_ITERATIONS = 320_000

#: A step's share may be above the target by this much,
_BEYOND_TARGET = 0.15
#: and is at most this.
_MOST_SHARE = 0.95


@dataclass(frozen=True)
class Solver:
    """How a stage is trained: momentum SGD, the rate falling in a straight line to 0.

    Attributes:
        iterations: Updates.
        rate: Learning rate of the first update.
        l2: Factor of the weights that is added to their gradients.
        l1: Factor of the weights' signs that is added to their gradients.
        batch: Images an update, over all batches that it is made of.
        momentum: Momentum of the gradient descent.
        power: Of what is left of the training, for the learning rate.
        bias_rate: Factor of the rate of biases, which do not decay.
    """

    rate: float
    l2: float = 0.0
    l1: float = 0.0
    iterations: int = PUBLISHED_ITERATIONS
    batch: int = 256
    momentum: float = 0.9
    power: float = 1.0
    bias_rate: float = 2.0

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Pruning:
    """When weights become zero: a share that grows step by step until enough of them are.

    Attributes:
        target: Share of all convolutions' weights at which it ends.
        start_share: Of a layer's weights, at the first step.
        step_share: How much it grows with each step.
        start_iteration: The update after which the first step comes.
        step_iterations: Updates from one step to the next.
    """

    target: float = 0.8
    start_share: float = 0.0
    step_share: float = 0.01
    start_iteration: int = 40_000
    step_iterations: int = 1000

    def share(self, iteration: int) -> float | None:
        """Returns the share of a step after an update, None for none, if the target is not reached.

        It grows beyond the target, to at most 0.15 more or 0.95: layers that lose half of it and
        weights too large to go are made up for by the others.

        Args:
            iteration: The update, counted from 1.
        """
        since = iteration - self.start_iteration
        if since < 0 or since % self.step_iterations:
            return None
        step = since // self.step_iterations
        most = min(self.target + _BEYOND_TARGET, _MOST_SHARE)
        if step > 0 and self._after(step - 1) >= most:
            return None
        return min(self._after(step), most)

    def _after(self, step: int) -> float:
        # Rounded: 95 steps of 0.01 are to end at 0.95, not beside it.
        return round(self.start_share + self.step_share * step, 12)

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Preset:
    """The training of both stages.

    Attributes:
        initial: The dense network's.
        sparse: The sparse network's, which goes on from the dense one.
        pruning: What becomes zero when, in the sparse stage.
    """

    initial: Solver
    sparse: Solver
    pruning: Pruning

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it, for JSON."""
        return asdict(self)

    def scaled(self, iterations: int, batch: int) -> "Preset":
        """Returns a shorter run in which everything happens at the same part of the way.

        Rates and L2 stay. L1 grows with the square root of how much shorter the run is: less, and
        weights would not get small enough to go; in proportion, and they would shrink faster than
        the running statistics of the normalizations can follow.

        Args:
            iterations: Updates of each stage.
            batch: Images an update.
        """
        ratio = iterations / self.sparse.iterations
        published_step = self.pruning.step_iterations * ratio
        step_iterations = max(round(published_step), 1)
        return Preset(
            replace(self.initial, iterations=iterations, batch=batch),
            replace(
                self.sparse,
                iterations=iterations,
                batch=batch,
                l1=self.sparse.l1 / math.sqrt(ratio),
            ),
            replace(
                self.pruning,
                start_iteration=round(self.pruning.start_iteration * ratio),
                step_iterations=step_iterations,
                step_share=self.pruning.step_share * step_iterations / published_step,
            ),
        )


#: The published values.
PUBLISHED = Preset(Solver(rate=0.1, l2=1e-4), Solver(rate=0.01, l1=1e-5), Pruning())
