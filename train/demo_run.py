"""One run of the demo, in a process of its own: ``python -m train.demo_run '{"arch": ...}'``.

Prints what it measured as one line of JSON, see train.measure.Measurement.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Literal

import swapmem.plot
from train import dataset, snapshots
from train.batches import EndlessBatches
from train.demo_images import CLASSES
from train.imagelist import read_list
from train.measure import Measurement, measure, memory_of
from train.models import ARCHITECTURES


@dataclass(frozen=True)
class Run:
    """What to train, and in which memory.

    Attributes:
        arch: a key of train.models.ARCHITECTURES.
        insize: height and width of the crops in pixels.
        batchsize: images an iteration.
        iterations: how many updates.
        images: the list file.
        root: the directory that its paths start from.
        mean: the mean image, a npy file.
        weights: the npz file to write the trained weights to.
        memory: "stock" is NumPy as it comes; "swapmem" a manager.
        budget_bytes: the manager's budget; None leaves it unlimited.
        spill_dir: where the manager's file store is; None is its default.
        picture: where to draw the residency of the last whole iteration; None draws nothing.
        seed: of weights, order, crops and dropout.
    """

    arch: str
    insize: int
    batchsize: int
    iterations: int
    images: str
    root: str
    mean: str
    weights: str
    memory: Literal["stock", "swapmem"]
    budget_bytes: int | None = None
    spill_dir: str | None = None
    picture: str | None = None
    seed: int = 0


def carry_out(run: Run) -> Measurement:
    """Trains as the run says, saves the weights and draws the picture."""
    mean = dataset.read_mean(run.mean)
    crops = dataset.RandomCrops(read_list(run.images, run.root), mean, run.insize, run.seed)
    with (
        memory_of(run.memory, run.budget_bytes, spill_dir=run.spill_dir) as memory,
        EndlessBatches(crops, run.batchsize, run.seed) as batches,
    ):
        measurement, model = measure(
            lambda: ARCHITECTURES[run.arch](run.insize, CLASSES),
            batches,
            run.iterations,
            run.seed,
            memory,
        )
        if memory is not None and run.picture is not None:
            swapmem.plot.plot_residency(
                memory.trace(),
                run.picture,
                budget_bytes=run.budget_bytes,
                title=f"{ARCHITECTURES[run.arch].__name__}, {run.insize} x {run.insize}, "
                f"batch {run.batchsize}: one training iteration",
            )
        snapshots.save(run.weights, model)
    return measurement


if __name__ == "__main__":
    print(json.dumps(asdict(carry_out(Run(**json.loads(sys.argv[1]))))))
