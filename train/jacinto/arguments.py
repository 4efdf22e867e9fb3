"""The options of ``python -m train.jacinto``."""

import argparse
import os
from dataclasses import replace

from train import choices
from train import option_types as types
from train.jacinto.solver import PUBLISHED, PUBLISHED_ITERATIONS, Preset


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; prints usage and exits with status 2 where it makes no sense."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.batch % args.batchsize:
        parser.error(f"--batch {args.batch} is no multiple of --batchsize {args.batchsize}")
    if args.ooc is None and (args.device_memory or args.host_memory or args.spill_dir):
        parser.error("--device-memory, --host-memory and --spill-dir are for --ooc")
    return args


def preset_of(args: argparse.Namespace) -> Preset:
    """Returns how to train: the published values, scaled to the run's length, and what is set."""
    preset = PUBLISHED.scaled(args.iterations, args.batch)
    rate, l1 = args.sparse_rate, args.l1
    return Preset(
        replace(preset.initial, rate=args.rate, l2=args.l2),
        replace(preset.sparse, rate=rate, l1=preset.sparse.l1 if l1 is None else l1),
        replace(preset.pruning, target=args.target),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.jacinto",
        description="Train JacintoNet11 dense, then sparse; test it, also in whole numbers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    # What the reading of images looks at and this command leaves as it is.
    parser.set_defaults(skip_broken=False, loadtype="original", iterator="thread")
    parser.add_argument("train", metavar="TRAIN", help="training images: list, .rec or LMDB")
    parser.add_argument("val", metavar="VAL", help="validation images")
    _add_data(parser.add_argument_group("data"))
    _add_training(parser.add_argument_group("training"))
    _add_quantization(parser.add_argument_group("whole numbers"))
    _add_memory(parser.add_argument_group("device and memory"))
    return parser


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument("--root", "-R", default=".", help="directory the lists' paths start from")
    data.add_argument("--mean", "-m", default="mean.npy", help="written by compute_mean.py")
    data.add_argument("--classes", type=types.whole(2), default=1000, help="labels are below this")
    data.add_argument("--insize", type=types.whole(1), default=224, help="image side in pixels")
    cores = len(os.sched_getaffinity(0))
    data.add_argument("--loaderjob", "-j", type=types.whole(0), default=cores, help="threads")
    data.add_argument("--out", "-o", default="result/jacinto", help="directory for all results")


def _add_training(run: argparse._ArgumentGroup) -> None:
    run.add_argument(
        "--iterations",
        "-i",
        type=types.whole(8),
        default=PUBLISHED_ITERATIONS,
        help="updates of each of the two stages; with fewer, everything comes as much earlier",
    )
    run.add_argument("--batch", type=types.whole(1), default=256, help="images an update")
    run.add_argument(
        "--batchsize", "-B", type=types.whole(1), default=64, help="images at once; divides --batch"
    )
    run.add_argument("--val_batchsize", "--val-batchsize", "-b", type=types.whole(1), default=250)
    run.add_argument("--rate", type=types.positive, default=PUBLISHED.initial.rate, help="dense")
    run.add_argument("--l2", type=types.number, default=PUBLISHED.initial.l2, help="dense")
    run.add_argument("--sparse-rate", type=types.positive, default=PUBLISHED.sparse.rate)
    run.add_argument(
        "--l1",
        type=types.number,
        help=f"sparse; {PUBLISHED.sparse.l1} at the published length, more in shorter runs",
    )
    run.add_argument(
        "--target", type=_share, default=PUBLISHED.pruning.target, help="zeros, of convolutions"
    )
    run.add_argument("--seed", type=types.whole(0, 2**32 - 1), default=0)


def _add_quantization(bits: argparse._ArgumentGroup) -> None:
    for name, default in (("weight", 12), ("activation", 8), ("bias", 16)):
        bits.add_argument(f"--{name}-bits", type=types.whole(2, 24), default=default)


def _add_memory(memory: argparse._ArgumentGroup) -> None:
    memory.add_argument("--gpu", "-g", type=types.gpus, default=[], help="its number; none")
    memory.add_argument(
        "--ooc",
        nargs="?",
        const=choices.OUT_OF_CORE[0],
        type=types.name_of("way to save memory", choices.OUT_OF_CORE),
        help="train within --device-memory",
    )
    memory.add_argument("--device-memory", metavar="SIZE", help="such as 2GiB")
    memory.add_argument("--host-memory", metavar="SIZE", help="with --gpu: pinned memory")
    memory.add_argument("--spill-dir", metavar="DIR", help="where the rest goes; a fast disk")


def _share(text: str) -> float:
    value = types.number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 1")
    return value
