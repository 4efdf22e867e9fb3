"""The data of a run, as its options say: which images, and in which batches."""

import os
import sys
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import dataset
from train.batches import EndlessBatches, ShardedBatches, SweepBatches
from train.dataset_images import Images, Preloaded, require_same_classes
from train.dataset_workers import Processes as LoadingProcesses
from train.dataset_workers import Threads
from train.errors import InputError
from train.imagelist import ImageList
from train.parallel import Processes


@dataclass(frozen=True)
class Data:
    """What is trained on and what is evaluated.

    Attributes:
        training: Images to train on.
        validation: Images to evaluate.
        mean: What is subtracted, see :func:`train.dataset.read_mean`.
    """

    training: Images
    validation: Images
    mean: NDArray[np.float32]


def read_data(args: Namespace, processes: Processes) -> Data:
    """Opens the images and reads the mean.

    Args:
        args: The options of :mod:`train.arguments`.
        processes: With ``--loadtype custom`` each reads its share of the files now.

    Raises:
        InputError: A file cannot be used, or a class has no image in one of the two.
    """
    mean = dataset.read_mean(args.mean)
    training = _read_images(args, args.train, mean, processes)
    validation = _read_images(args, args.val, mean, processes)
    require_same_classes(training, validation)
    if args.loadtype == "custom":
        training = _share_of(training, processes)
        validation = _share_of(validation, processes)
    return Data(training, validation, mean)


def _read_images(
    args: Namespace, source: str, mean: NDArray[np.float32], processes: Processes
) -> Images:
    images = dataset.open_images(source, root=args.root, classes=args.classes)
    # The centre stands for every crop: whether one can be cut depends on the image's size alone.
    crops = dataset.CentreCrops(images, mean, args.insize)
    if not args.skip_broken:
        if isinstance(images, ImageList):
            images.require_files()
        return images
    broken = dataset.broken(crops, _jobs(args, processes))
    if processes.is_first:
        for error in broken.values():
            print(f"skipped: {error}", file=sys.stderr)
        if 0 < len(broken) < len(images):
            print(f"{source}: {len(broken)} of {len(images)} images skipped", file=sys.stderr)
    if len(broken) == len(images):
        raise InputError(f"{source}: not one of its {len(images)} images can be used")
    return images.select(i for i in range(len(images)) if i not in broken)


def _share_of(images: Images, processes: Processes) -> Images:
    return Preloaded(images, range(processes.rank, len(images), processes.size))


def make_batches(
    args: Namespace, data: Data, processes: Processes
) -> tuple[EndlessBatches, SweepBatches]:
    """Returns the batches to train on and those to evaluate, this process's share of each."""
    loading: dict[str, Any] = {
        "jobs": 0 if args.iterator == "serial" else _jobs(args, processes),
        "loader": LoadingProcesses if args.iterator == "process" else Threads,
        "rank": processes.rank,
        "ranks": processes.size,
    }
    endless = ShardedBatches if args.loadtype == "custom" else EndlessBatches
    crops = dataset.RandomCrops(data.training, data.mean, args.insize, args.seed)
    centres = dataset.CentreCrops(data.validation, data.mean, args.insize)
    return (
        endless(crops, args.batchsize, args.seed, **loading),
        SweepBatches(centres, args.val_batchsize, **loading),
    )


def _jobs(args: Namespace, processes: Processes) -> int:
    if args.loaderjob is not None:
        return int(args.loaderjob)
    return max(len(os.sched_getaffinity(0)) // processes.node_size, 1)
