"""What the stages came to: tables, a picture, and the same as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from swapmem.files import replacing
from train.jacinto.accuracy import Accuracy
from train.jacinto.pruning import LayerSparsity, zero_share


@dataclass(frozen=True)
class Stage:
    """What was measured of a network.

    Attributes:
        name: "initial", "sparse" or "quantized".
        accuracy: Over all validation images.
        layers: How much of each layer is zero.
    """

    name: str
    accuracy: Accuracy
    layers: list[LayerSparsity]


def accuracy_table(stages: Sequence[Stage]) -> Table:
    """Returns accuracy and zeros by stage, in percent and in points of the first stage's."""
    first = stages[0].accuracy
    table = Table("stage", title=f"Accuracy over {first.images:,} validation images")
    for column in ("top-1", "points", "top-5", "points", "zeros where pruned", "zeros of all"):
        table.add_column(column, justify="right")
    for stage in stages:
        table.add_row(
            stage.name,
            f"{stage.accuracy.top1:.2%}",
            f"{100 * (stage.accuracy.top1 - first.top1):+.2f}",
            f"{stage.accuracy.top5:.2%}",
            f"{100 * (stage.accuracy.top5 - first.top5):+.2f}",
            f"{zero_share(stage.layers):.2%}",
            f"{_share(stage.layers):.2%}",
        )
    return table


def layer_table(stages: Sequence[Stage]) -> Table:
    """Returns the zeros of each layer, by stage."""
    table = Table("layer", title="Weights that are zero")
    for column in ("weights", *(stage.name for stage in stages)):
        table.add_column(column, justify="right")
    for layers in zip(*(stage.layers for stage in stages), strict=True):
        name = layers[0].name + ("" if layers[0].prunable else " (not pruned)")
        table.add_row(
            name,
            f"{layers[0].weights:,}",
            *(f"{layer.zeros / layer.weights:.1%}" for layer in layers),
        )
    return table


def save_summary(stages: Sequence[Stage], options: dict[str, Any], out: Path) -> None:
    """Writes ``summary.json`` and ``stages.png``, each in one step.

    Args:
        stages: What was measured.
        options: How it was trained, for the file.
        out: The directory for the two.
    """
    content = {"options": options, "stages": [asdict(stage) for stage in stages]}
    with replacing(out / "summary.json") as file:
        file.write(json.dumps(content, indent=2).encode())
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    _draw_accuracy(left, stages)
    _draw_zeros(right, stages)
    with replacing(out / "stages.png") as file:
        figure.savefig(file, format="png", dpi=100)


def _draw_accuracy(axes: Axes, stages: Sequence[Stage]) -> None:
    for offset, name in ((-0.2, "top1"), (0.2, "top5")):
        heights = [100 * getattr(stage.accuracy, name) for stage in stages]
        places = [place + offset for place in range(len(stages))]
        bars = axes.bar(places, heights, width=0.38, label=f"top-{name[-1]}")
        axes.bar_label(bars, fmt="%.1f", fontsize="small")
    axes.set_xticks(range(len(stages)), [stage.name for stage in stages])
    axes.set(ylabel="accuracy, %", ylim=(0, 120), title="Accuracy")
    axes.legend(loc="upper center", ncols=2)


def _draw_zeros(axes: Axes, stages: Sequence[Stage]) -> None:
    width = 0.8 / len(stages)
    names = [layer.name for layer in stages[0].layers]
    for number, stage in enumerate(stages):
        heights = [100 * layer.zeros / layer.weights for layer in stage.layers]
        places = [place + (number - (len(stages) - 1) / 2) * width for place in range(len(names))]
        axes.bar(places, heights, width=width, label=stage.name)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize="small")
    axes.set(ylabel="weights that are zero, %", ylim=(0, 100), title="Zeros by layer")
    axes.legend(loc="upper left", ncols=len(stages))


def _share(layers: Sequence[LayerSparsity]) -> float:
    return sum(layer.zeros for layer in layers) / sum(layer.weights for layer in layers)
