"""Trains GoogLeNet or ResNet-50 on labelled images, in memory or out of core.

    python train/train_imagenet.py train.txt val.txt --arch resnet50 --root images --mean mean.npy
    python train/train_imagenet.py ... --insize 896 --ooc --device-memory 2GiB --spill-dir /nvme

Exit status: 0 done; 1 the run failed; 2 an option or a file cannot be used; 130 interrupted.
"""

import contextlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a file, Python looks for modules beside it and not where the package lies.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import swapmem
from train import arguments, dataset, snapshots
from train.batches import EndlessBatches, SweepBatches
from train.devices import choose_device
from train.errors import InputError
from train.files import replacing
from train.imagelist import ImageList, read_list
from train.models import ARCHITECTURES
from train.trainer import Schedule, Until, make_trainer


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = arguments.parse(argv)
    try:
        run(args)
    except InputError as error:
        return _failed(2, f"error: {error}")
    except (swapmem.Error, OSError) as error:
        return _failed(1, f"failed: {error}")
    except KeyboardInterrupt:
        newest = snapshots.newest(args.out)
        return _failed(130, f"interrupted; the newest snapshot is {newest or 'none'}")
    return 0


def run(args: Namespace) -> None:
    """Trains as the options say.

    Raises:
        InputError: An option or a file cannot be used. Unless it is an image, which is read when
            its turn comes, no file was written or changed.
        swapmem.Error: The memory manager failed, for want of memory or of disk.
    """
    # Lists and mean are read before the manager begins: they are looked at all the time, by the
    # loader's threads too, and are better left alone.
    mean = dataset.read_mean(args.mean)
    images = _read_images(args, args.train, mean), _read_images(args, args.val, mean)
    device = choose_device(args.gpu)
    with _manager(args) as memory:
        _train(args, *images, mean, memory, device)


def _train(
    args: Namespace,
    training_images: ImageList,
    validation_images: ImageList,
    mean: np.ndarray,
    memory: swapmem.Manager | None,
    device: Any,
) -> None:
    np.random.seed(args.seed)  # the weights and dropout; Chainer draws them from here
    try:
        model: Any = ARCHITECTURES[args.arch](args.insize, args.classes)
    except ValueError as error:
        raise InputError(f"--insize {args.insize}: {error}") from error
    if args.initmodel:
        snapshots.load_model(args.initmodel, model)
    model.to_device(device)

    random_crops = dataset.RandomCrops(training_images, mean, args.insize, args.seed)
    centre_crops = dataset.CentreCrops(validation_images, mean, args.insize)
    trainer = make_trainer(
        model,
        EndlessBatches(random_crops, args.batchsize, args.seed, args.loaderjob),
        SweepBatches(centre_crops, args.val_batchsize, args.loaderjob),
        _schedule(args, len(training_images)),
        args.out,
        identity={"arch": args.arch, "classes": args.classes, "seed": args.seed},
        device=device,
    )
    if resume := snapshots.newest(args.out) if args.autoload else args.resume:
        snapshots.load_trainer(resume, trainer)
        print(f"resumed from {resume} after iteration {trainer.updater.iteration}", flush=True)

    _make_writable(args.out)
    try:
        # A failure is told once, by whoever catches it.
        trainer.run(show_loop_exception_msg=False)
    finally:
        if memory is not None:
            print(memory.report(), flush=True)
            with replacing(Path(args.out, "swap_report.json")) as file:
                file.write(json.dumps(memory.stats(), indent=2).encode())


def _schedule(args: Namespace, examples: int) -> Schedule:
    if args.test:
        evaluate_every = log_every = 10, "iteration"
    else:
        evaluate_every = log_every = 1, "epoch"
        if examples > 1000 * args.batchsize:
            log_every = 1000, "iteration"
    end = Until(args.iteration, "iteration") if args.iteration else Until(args.epoch, "epoch")
    return Schedule(
        end,
        evaluate_every,
        log_every,
        lr=args.lr,
        lr_step=args.lr_step,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        n_retains=args.n_retains,
    )


def _read_images(args: Namespace, source: str, mean: np.ndarray) -> ImageList:
    images = read_list(source, args.root, args.classes)
    # The centre stands for every crop: whether one can be cut depends on the image's size alone.
    crops = dataset.CentreCrops(images, mean, args.insize)
    if not args.skip_broken:
        images.require_files()
        return images
    broken = dataset.broken(crops, args.loaderjob)
    for error in broken.values():
        print(f"skipped: {error}", file=sys.stderr)
    if len(broken) == len(images):
        raise InputError(f"{source}: not one of its {len(images)} images can be used")
    if broken:
        print(f"{source}: {len(broken)} of {len(images)} images skipped", file=sys.stderr)
    return images.select(i for i in range(len(images)) if i not in broken)


@contextlib.contextmanager
def _manager(args: Namespace) -> Iterator[swapmem.Manager | None]:
    if not args.ooc:
        yield None
        return
    import swapmem.chainer  # announces Chainer's arrays to the manager

    try:
        if args.gpu < 0:
            manager = swapmem.Manager(
                device="host", device_memory=args.device_memory, spill_dir=args.spill_dir
            )
        else:
            manager = swapmem.Manager(
                device=f"cuda:{args.gpu}",
                device_memory=args.device_memory,
                host_memory=args.host_memory,
                spill_dir=args.spill_dir,
            )
    except (ValueError, OSError, swapmem.Error) as error:
        raise InputError(f"--device-memory, --host-memory or --spill-dir: {error}") from error
    with manager as memory:
        yield memory


def _make_writable(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {directory}: cannot be made: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(f"--out {directory}: not writable")


def _failed(status: int, message: str) -> int:
    print(f"train_imagenet.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
