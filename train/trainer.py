"""Chainer's trainer as this project sets it up."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainer import training
from chainer.training import extensions, triggers

from train import progress, snapshots
from train.batches import EndlessBatches, SweepBatches
from train.evaluation import Evaluation
from train.parallel import ALONE, Processes
from train.pictures import PlotLog
from train.schedules import Rate, Schedule
from train.updaters import Updater

COLUMNS = (
    "epoch",
    "iteration",
    "main/loss",
    "validation/main/loss",
    "main/accuracy",
    "validation/main/accuracy",
    "lr",
)


class Until:
    """Stops the training at a length; unlike Chainer's trigger also where it is already past it.

    Args:
        length: How long to train.
        unit: "epoch" or "iteration".
    """

    def __init__(self, length: int, unit: str):
        self._length = length
        self._unit = unit

    def __call__(self, trainer: training.Trainer) -> bool:
        """Returns whether the training is done."""
        updater = trainer.updater
        done = updater.iteration if self._unit == "iteration" else updater.epoch_detail
        return bool(done >= self._length)

    def get_training_length(self) -> tuple[int, str]:
        """Returns length and unit, for progress bars."""
        return self._length, self._unit


class EveryAndLast:
    """Fires at an interval and in the last iteration, so that the end is evaluated and saved too.

    Args:
        interval: Length and unit, "epoch" or "iteration".
        end: Tells the last iteration.
    """

    def __init__(self, interval: tuple[int, str], end: Until):
        self._interval = triggers.IntervalTrigger(*interval)
        self._end = end

    def __call__(self, trainer: training.Trainer) -> bool:
        """Returns whether this is such an iteration."""
        due = self._interval(trainer)
        return bool(due or self._end(trainer))

    def serialize(self, serializer: Any) -> None:
        """Saves or loads when the interval was last looked at."""
        self._interval.serialize(serializer)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        end: When to stop.
        schedule: Tells the optimizer's rates.
        evaluate_every: How often to evaluate and save, length and unit.
        snapshot_every: How often to take a snapshot; None for as often as that.
        log_every: How often to log, length and unit.
        bias_rate: Factor of the learning rate of biases.
        accumulate: How many batches make an update.
        seed: Of what is drawn at random in updates.
        n_retains: How many snapshots to keep, 0 for all.
    """

    end: Until
    schedule: Schedule
    evaluate_every: tuple[int, str] = (1, "epoch")
    snapshot_every: tuple[int, str] | None = None
    log_every: tuple[int, str] = (1000, "iteration")
    bias_rate: float = 1.0
    accumulate: int = 1
    seed: int = 0
    n_retains: int = 2


def make_trainer(
    optimizer: Any,
    training_batches: EndlessBatches,
    validation_batches: SweepBatches,
    recipe: Recipe,
    out: str,
    identity: Mapping[str, str | int],
    device: Any,
    processes: Processes = ALONE,
) -> training.Trainer:
    """Puts model, data and extensions together.

    Args:
        optimizer: Set up for the model, which is called with images and labels for its loss.
        training_batches: Batches without end.
        validation_batches: Batches of one sweep.
        recipe: How to train.
        out: Directory for the log, the pictures, the graph and the snapshots; exists.
        identity: What a run that resumes from a snapshot must have in common with this one.
        device: Chainer's device, where the model is; batches are sent there.
        processes: Those that train this model together. The first one writes the files.

    Returns:
        The trainer, not run yet.
    """
    model = optimizer.target
    graph = Path(out, "cg.dot") if processes.is_first else None
    updater = Updater(
        training_batches, optimizer, device, recipe.seed, recipe.accumulate, processes, graph
    )
    trainer = training.Trainer(updater, recipe.end, out)

    def evaluated() -> EveryAndLast:
        return EveryAndLast(recipe.evaluate_every, recipe.end)

    def saved() -> EveryAndLast:
        return EveryAndLast(recipe.snapshot_every or recipe.evaluate_every, recipe.end)

    trainer.extend(Rate(recipe.schedule, recipe.bias_rate))
    # Before what is evaluated, and before what is saved: a snapshot is one for all processes.
    for name, trigger in (("evaluate", evaluated()), ("snapshot", saved())):
        trainer.extend(
            lambda _: processes.average_persistent(model),
            name=f"average_persistent_to_{name}",
            trigger=trigger,
            priority=training.PRIORITY_WRITER + 2,
        )
    trainer.extend(Evaluation(validation_batches, model, device, processes), trigger=evaluated())
    snapshot = snapshots.Snapshot(identity, recipe.n_retains, writes=processes.is_first)
    trainer.extend(snapshot, trigger=saved())
    if processes.is_first:
        # The weights are saved before they are evaluated: a broken image cannot cost them.
        trainer.extend(
            extensions.snapshot_object(model, "model_iter_{.updater.iteration}", snapshots.save),
            trigger=evaluated(),
            priority=training.PRIORITY_WRITER + 1,
        )
        _extend_with_log(trainer, recipe)
    return trainer


def _extend_with_log(trainer: training.Trainer, recipe: Recipe) -> None:
    def logged() -> EveryAndLast:
        return EveryAndLast(recipe.log_every, recipe.end)

    trainer.extend(extensions.observe_lr(), trigger=logged())
    trainer.extend(extensions.LogReport(trigger=logged()))
    report, bar = progress.printing_extensions(COLUMNS, sys.stdout)
    trainer.extend(report, trigger=logged())
    # One name for both, by which a run that is resumed elsewhere finds its trigger's state.
    trainer.extend(bar, name="progress")
    # A validation's loss can begin a hundred times the training's.
    for name, scale in (("loss", "log"), ("accuracy", "linear")):
        columns = (f"main/{name}", f"validation/main/{name}")
        plot = PlotLog(columns, f"{name}.png", scale)
        trainer.extend(plot, name=f"plot_{name}", trigger=logged())
