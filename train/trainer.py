"""Chainer's trainer as this project sets it up."""

import sys
from dataclasses import dataclass
from typing import Any

import chainer
from chainer import training
from chainer.training import extensions, triggers

from train import progress, snapshots
from train.batches import EndlessBatches, SweepBatches

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
class Schedule:
    """How a model is trained.

    Attributes:
        end: When to stop.
        evaluate_every: How often to evaluate and save, length and unit.
        log_every: How often to log, length and unit.
        lr: Learning rate of the first epochs.
        lr_step: The learning rate is divided by ten every so many epochs.
        momentum: Momentum of the gradient descent.
        weight_decay: Factor of the weights that is added to their gradients.
        n_retains: How many snapshots to keep, 0 for all.
    """

    end: Until
    evaluate_every: tuple[int, str] = (1, "epoch")
    log_every: tuple[int, str] = (1000, "iteration")
    lr: float = 0.01
    lr_step: int = 30
    momentum: float = 0.9
    weight_decay: float = 1e-4
    n_retains: int = 2


def make_trainer(
    model: chainer.Chain,
    training_batches: EndlessBatches,
    validation_batches: SweepBatches,
    schedule: Schedule,
    out: str,
    identity: dict[str, str | int],
    device: Any,
) -> training.Trainer:
    """Puts model, data and extensions together.

    Args:
        model: Called with a batch's images and labels for its loss.
        training_batches: Batches without end.
        validation_batches: Batches of one sweep.
        schedule: How to train.
        out: Directory for the log and the snapshots; exists.
        identity: What a run that resumes from a snapshot must have in common with this one.
        device: Chainer's device, where the model is; batches are sent there.

    Returns:
        The trainer, not run yet.
    """
    optimizer = chainer.optimizers.MomentumSGD(lr=schedule.lr, momentum=schedule.momentum)
    optimizer.setup(model)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(schedule.weight_decay))
    updater = training.StandardUpdater(training_batches, optimizer, device=device)
    trainer = training.Trainer(updater, schedule.end, out)

    def evaluated() -> EveryAndLast:
        return EveryAndLast(schedule.evaluate_every, schedule.end)

    def logged() -> EveryAndLast:
        return EveryAndLast(schedule.log_every, schedule.end)

    trainer.extend(
        extensions.ExponentialShift("lr", 0.1),
        trigger=triggers.IntervalTrigger(schedule.lr_step, "epoch"),
    )
    # The weights are saved before they are evaluated: a broken validation image cannot cost them.
    trainer.extend(
        extensions.snapshot_object(model, "model_iter_{.updater.iteration}", snapshots.save),
        trigger=evaluated(),
        priority=training.PRIORITY_WRITER + 1,
    )
    evaluator = extensions.Evaluator(validation_batches, model, device=device)
    trainer.extend(evaluator, trigger=evaluated())
    trainer.extend(extensions.observe_lr(), trigger=logged())
    trainer.extend(extensions.LogReport(trigger=logged()))
    report, bar = progress.printing_extensions(COLUMNS, sys.stdout)
    trainer.extend(report, trigger=logged())
    trainer.extend(bar)
    trainer.extend(snapshots.Snapshot(identity, schedule.n_retains), trigger=evaluated())
    return trainer
