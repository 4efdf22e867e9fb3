"""One update of the weights: from one batch or several, on one process or several."""

from pathlib import Path
from typing import Any

import chainer
import numpy as np
from chainer import computational_graph, training

from swapmem.files import replacing
from train.batches import Batches
from train.parallel import ALONE, Processes


class Updater(training.updaters.StandardUpdater):
    """Averages the gradients of several batches and of all processes, and updates once.

    What is drawn at random in an update (dropout's masks) depends on (`seed`, iteration, rank)
    alone. So a run that is resumed draws what one that was not interrupted does, on a GPU too,
    whose generator's state cannot be saved.

    Args:
        batches: Batches without end.
        optimizer: Set up for the model, which is called with a batch for its loss.
        device: Chainer's device, where the model is; batches are sent there.
        seed: See above.
        accumulate: How many batches make an update. Their gradients are averaged, so that an
            update is that of one batch as large as all of them; but batch normalization sees
            each by itself.
        processes: Those that train the same model.
        graph: File for the graph of the first loss, in Graphviz's language; None for none.
    """

    def __init__(
        self,
        batches: Batches,
        optimizer: Any,
        device: Any,
        seed: int = 0,
        accumulate: int = 1,
        processes: Processes = ALONE,
        graph: Path | None = None,
    ):
        super().__init__(batches, optimizer, device=device)
        self._seed = seed
        self._accumulate = accumulate
        self._processes = processes
        self._graph = graph
        self._epoch_before: float | None = None

    @property
    def previous_epoch_detail(self) -> float | None:
        """Where the data was before the update, not only before its last batch."""
        if self._epoch_before is None:
            before: float | None = super().previous_epoch_detail
            return before
        return self._epoch_before

    @property
    def is_new_epoch(self) -> bool:
        """Whether a sweep over the data ended within the update."""
        before = self.previous_epoch_detail
        return before is not None and int(before) != self.epoch

    def update_core(self) -> None:
        """Does one update; reports means over its batches."""
        batches = self.get_iterator("main")
        optimizer = self.get_optimizer("main")
        model = optimizer.target
        self._epoch_before = batches.epoch_detail
        self._draw_anew()
        # Before the forward pass, not after it as Chainer does: the old gradients need not be kept.
        model.cleargrads()
        observed: list[dict[str, Any]] = []
        for _ in range(self._accumulate):
            observed.append(self._add_gradients(model, next(batches)))
        chainer.report(
            observed[0]
            if self._accumulate == 1
            else {k: sum(o[k] for o in observed) / self._accumulate for k in observed[0]}
        )
        self._processes.average_gradients(model)
        optimizer.update()
        self._processes.stop_if_interrupted()
        if self.is_new_epoch:
            optimizer.new_epoch(auto=True)

    def _add_gradients(self, model: chainer.Chain, batch: list[Any]) -> dict[str, Any]:
        images, labels = self.converter(batch, self.input_device)
        observation: dict[str, Any] = {}
        with chainer.reporter.report_scope(observation):
            loss = model(images, labels)
        if self._graph and not self.iteration:
            self._dump_graph(self._graph, loss)
        if self._accumulate > 1:
            loss /= self._accumulate
        loss.backward()
        return {
            name: value.array if isinstance(value, chainer.Variable) else value
            for name, value in observation.items()
        }

    def _dump_graph(self, path: Path, loss: chainer.Variable) -> None:
        # Before the backward pass: Chainer's DumpGraph comes after the update, and for that the
        # whole iteration keeps the arrays of the graph.
        with replacing(path) as file:
            file.write(computational_graph.build_computational_graph([loss]).dump().encode())
        self._graph = None

    def _draw_anew(self) -> None:
        key = np.random.SeedSequence(
            self._seed, spawn_key=(self.iteration, self._processes.rank)
        ).generate_state(4)
        np.random.seed(key)
        if self.device.xp is not np:
            self.device.xp.random.seed(int(key[0]))
