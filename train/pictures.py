"""Pictures of the log: loss and accuracy over the epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chainer import training
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from swapmem.files import replacing


class _PlainNumbers(LogFormatter):
    """0.2 and not 2e-01; says where a number is to stand as that formatter does."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


class PlotLog(training.Extension):
    """Draws columns of the log into a picture whenever the log grew.

    Chainer's PlotReport keeps the curves itself and writes the file in place. This one draws what
    LogReport has, which a snapshot holds anyway, and replaces the picture in one step.

    Args:
        columns: What to draw, where the log has it.
        file_name: The picture in the trainer's output directory, a png file.
        scale: Of the values, "linear" or "log".
    """

    def __init__(self, columns: Sequence[str], file_name: str, scale: str = "linear"):
        self._columns = columns
        self._file_name = file_name
        self._scale = scale

    def __call__(self, trainer: training.Trainer) -> None:
        """Draws and replaces the picture."""
        rows: list[dict[str, Any]] = trainer.get_extension("LogReport").log
        figure = Figure(figsize=(7, 4.5))
        axes = figure.add_subplot(xlabel="iteration")
        for column in self._columns:
            points = [(row["iteration"], row[column]) for row in rows if column in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=column)
        axes.set_yscale(self._scale)
        if self._scale == "log":
            axes.yaxis.set_major_formatter(_PlainNumbers())
            axes.yaxis.set_minor_formatter(_PlainNumbers(minor_thresholds=(1.5, 0.5)))
        axes.grid(which="both", alpha=0.3)
        axes.legend()
        with replacing(Path(trainer.out, self._file_name)) as file:
            figure.savefig(file, format="png", dpi=100)
