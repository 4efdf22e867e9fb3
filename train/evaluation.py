"""Loss and accuracy over the validation images."""

from typing import Any

import chainer
from chainer.training import extensions

from train.batches import SweepBatches
from train.parallel import ALONE, Processes


class Evaluation(extensions.Evaluator):
    """Chainer's evaluator, but every image counts the same, and processes share the images.

    Chainer averages over batches, so an image in a short last batch would count more. Its name in
    the log stays "validation".

    Args:
        batches: Batches of this process's share of the images.
        model: Reports what is averaged.
        device: Where the model is.
        processes: Those that share the images; evaluate together.
    """

    name = "validation"
    default_name = "validation"

    def __init__(
        self, batches: SweepBatches, model: chainer.Chain, device: Any, processes: Processes = ALONE
    ):
        super().__init__(batches, model, device=device)
        self._processes = processes

    def evaluate(self) -> dict[str, float]:
        """Returns the means over all images of all processes.

        Raises:
            KeyboardInterrupt: A process was interrupted meanwhile; in all of them.
        """
        batches = self.get_iterator("main")
        model = self.get_target("main")
        batches.reset()
        totals: dict[str, float] = {}
        images = 0
        for batch in batches:
            if self._processes.interrupted:
                break
            observation: dict[str, Any] = {}
            with chainer.reporter.report_scope(observation), chainer.no_backprop_mode():
                model(*self.converter(batch, self.device))
            images += len(batch)
            for name, value in observation.items():
                array = value.array if isinstance(value, chainer.Variable) else value
                totals[name] = totals.get(name, 0.0) + float(array) * len(batch)
        self._processes.stop_if_interrupted()
        shares = self._processes.gather((totals, images))
        names = sorted({name for share, _ in shares for name in share})
        count = sum(n for _, n in shares)
        return {name: sum(s.get(name, 0.0) for s, _ in shares) / count for name in names}
