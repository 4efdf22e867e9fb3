"""What the trainer prints: a bar on a terminal, plain lines everywhere else."""

import datetime
import re
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from chainer import training
from chainer.training import extensions

_ESCAPES = re.compile("\033\\[[0-9;]*[A-Za-z]")


class _Plain:
    """A stream without the escape sequences that Chainer writes to move the cursor."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(_ESCAPES.sub("", text))

    def flush(self) -> None:
        self._stream.flush()


class ProgressLine(training.Extension):
    """Prints now and then a line saying how far the training is, for logs and pipes.

    Args:
        stream: Where to print.
        interval_seconds: The least time between two lines.
        clock: Returns the time in seconds.
    """

    trigger = 1, "iteration"

    def __init__(
        self,
        stream: TextIO,
        interval_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = stream
        self._interval_seconds = interval_seconds
        self._clock = clock

    def initialize(self, trainer: training.Trainer) -> None:
        """Starts the clock."""
        self._mark(trainer)

    def __call__(self, trainer: training.Trainer) -> None:
        """Prints a line if the last one is long enough ago."""
        elapsed_seconds = self._clock() - self._last_seconds
        if elapsed_seconds < self._interval_seconds:
            return
        updater = trainer.updater
        length, unit = trainer.stop_trigger.get_training_length()
        done = updater.iteration if unit == "iteration" else updater.epoch_detail
        left_seconds = (length - done) / (done - self._last_done) * elapsed_seconds
        rate = (updater.iteration - self._last_iteration) / elapsed_seconds
        self._stream.write(
            f"iteration {updater.iteration}, epoch {updater.epoch_detail:.2f}, "
            f"{done / length:.1%}, {rate:.3g} iterations/s, "
            f"{datetime.timedelta(seconds=round(max(left_seconds, 0)))} left\n"
        )
        self._stream.flush()
        self._mark(trainer)

    def _mark(self, trainer: training.Trainer) -> None:
        _, unit = trainer.stop_trigger.get_training_length()
        updater = trainer.updater
        self._last_seconds = self._clock()
        self._last_iteration = updater.iteration
        self._last_done = updater.iteration if unit == "iteration" else updater.epoch_detail


def printing_extensions(
    columns: Sequence[str], stream: TextIO
) -> tuple[extensions.PrintReport, training.Extension]:
    """Returns the extension that prints `columns` of the log and the one that shows progress."""
    if stream.isatty():
        bar = extensions.ProgressBar(update_interval=1, out=stream)
        return extensions.PrintReport(columns, out=stream), bar
    return extensions.PrintReport(columns, out=_Plain(stream)), ProgressLine(stream)
