"""The options of train_imagenet.py; names and defaults are those of Chainer's example."""

import argparse
import difflib
import os
from collections.abc import Callable

from train.models import ARCHITECTURES


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; prints usage and exits with status 2 where it makes no sense."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.ooc and (args.device_memory is not None or args.spill_dir is not None):
        parser.error("--device-memory and --spill-dir are for out-of-core training: add --ooc")
    if args.host_memory is not None and (not args.ooc or args.gpu < 0):
        parser.error(
            "--host-memory is pinned for a GPU that trains out of core: add --gpu and --ooc"
        )
    if args.resume and args.autoload:
        parser.error("--resume names the snapshot and --autoload finds one: give only one of them")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_imagenet.py",
        description="Train a convolutional network on labelled images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("train", metavar="TRAIN", help="list of training images: 'path label'")
    parser.add_argument("val", metavar="VAL", help="list of validation images")

    data = parser.add_argument_group("data")
    data.add_argument("--root", "-R", default=".", help="directory the lists' paths start from")
    data.add_argument("--mean", "-m", default="mean.npy", help="written by compute_mean.py")
    data.add_argument("--classes", type=_whole(1), default=1000, help="labels are below this")
    data.add_argument(
        "--loaderjob",
        "-j",
        type=_whole(0),
        default=len(os.sched_getaffinity(0)),
        help="threads that load images; 0 and 1 load in the main thread",
    )
    data.add_argument(
        "--skip-broken",
        action="store_true",
        help="read every image before the start, name those that cannot be used on standard "
        "error, and train without them; otherwise the first one ends the run",
    )

    model = parser.add_argument_group("model")
    model.add_argument("--arch", "-a", type=_architecture, default="googlenet", help=_known())
    model.add_argument("--insize", type=_whole(1), default=224, help="image side in pixels")
    model.add_argument("--initmodel", metavar="NPZ", help="weights to start from")

    run = parser.add_argument_group("training")
    run.add_argument("--batchsize", "-B", type=_whole(1), default=32, help="images an iteration")
    run.add_argument("--val_batchsize", "--val-batchsize", "-b", type=_whole(1), default=250)
    run.add_argument("--epoch", "-E", type=_whole(1), default=10, help="sweeps over TRAIN")
    run.add_argument(
        "--iteration", "-i", type=_whole(0), default=0, help="if above 0, instead of --epoch"
    )
    run.add_argument("--lr", type=_positive, default=0.01, help="learning rate")
    run.add_argument(
        "--lr-step", type=_whole(1), default=30, help="epochs until it is divided by ten, again"
    )
    run.add_argument("--momentum", type=float, default=0.9)
    run.add_argument("--weight-decay", type=float, default=1e-4)
    run.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, help="same seed, same result")
    run.add_argument("--test", action="store_true", help="evaluate and log every 10 iterations")

    files = parser.add_argument_group("results")
    files.add_argument("--out", "-o", default="result", help="directory for log and snapshots")
    files.add_argument("--resume", "-r", metavar="NPZ", help="snapshot to go on from")
    files.add_argument(
        "--autoload", action="store_true", help="go on from the newest snapshot in --out, if any"
    )
    files.add_argument(
        "--n-retains", type=_whole(0), default=2, help="snapshots to keep, 0 for all"
    )

    run.add_argument("--gpu", "-g", type=_whole(-1), default=-1, help="GPU to use, -1 for none")

    memory = parser.add_argument_group("out of core")
    memory.add_argument("--ooc", action="store_true", help="train within --device-memory")
    memory.add_argument(
        "--device-memory", metavar="SIZE", help="such as 2GiB; most of it by default"
    )
    memory.add_argument(
        "--host-memory", metavar="SIZE", help="with --gpu: pinned memory that takes the rest first"
    )
    memory.add_argument("--spill-dir", metavar="DIR", help="where the rest goes; a fast disk")
    return parser


def _known() -> str:
    return ", ".join(ARCHITECTURES)


def _architecture(name: str) -> str:
    if name in ARCHITECTURES:
        return name
    near = difflib.get_close_matches(name.lower(), ARCHITECTURES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise argparse.ArgumentTypeError(f"unknown architecture {name!r}: {hint}known: {_known()}")


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse_whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < least or (most is not None and number > most):
            limit = f"{least} or more" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{number}: must be {limit}")
        return number

    return parse_whole


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return number
