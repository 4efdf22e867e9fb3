"""The options of train_imagenet.py; names and defaults are those of Chainer's example."""

import argparse
import sys

from train import choices
from train import option_types as types
from train.models import ARCHITECTURES


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line; prints usage and exits with status 2 where it makes no sense."""
    parser = _parser()
    args = parser.parse_args(types.one_word(sys.argv[1:] if argv is None else argv))
    _check_memory(parser, args)
    _check_training(parser, args)
    if args.insize is None:
        args.insize = ARCHITECTURES[args.arch].default_insize
    return args


def _check_memory(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.ooc and (args.device_memory is not None or args.spill_dir is not None):
        parser.error("--device-memory and --spill-dir are for out-of-core training: add --ooc")
    if args.host_memory is not None and not (args.ooc and args.gpu):
        parser.error(
            "--host-memory is pinned for a GPU that trains out of core: add --gpu and --ooc"
        )


def _check_training(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.resume and args.autoload:
        parser.error("--resume names the snapshot and --autoload finds one: give only one of them")
    if args.processes is not None and args.gpu:
        parser.error("--processes is for training without GPUs; with --gpu there is one for each")
    if args.optimizer == "rmsprop_warmup":
        if args.schedule != "step" or args.lr_steps is not None or args.lr_step is not None:
            parser.error("--optimizer rmsprop_warmup has a schedule of its own: name no other")
        if args.bias_rate != 1:
            parser.error("--bias-rate: not with --optimizer rmsprop_warmup")
    if args.lr_step is not None and args.lr_steps is not None:
        parser.error("--lr-step and --lr-steps say the same in two ways: give only one of them")
    if args.schedule != "step" and (args.lr_step or args.lr_steps):
        parser.error(f"--lr-step and --lr-steps do not go with --schedule {args.schedule}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_imagenet.py",
        description="Train a convolutional network on labelled images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        # A prefix of an option would be taken for it, and --gpu's words could not be told apart.
        allow_abbrev=False,
    )
    parser.add_argument("train", metavar="TRAIN", help="list of training images: 'path label'")
    parser.add_argument("val", metavar="VAL", help="list of validation images")
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_optimizer(parser.add_argument_group("optimizer"))
    _add_results(parser.add_argument_group("results"))
    _add_devices(parser.add_argument_group("devices and processes"))
    _add_memory(parser.add_argument_group("out of core"))
    return parser


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument("--root", "-R", default=".", help="directory the lists' paths start from")
    data.add_argument("--mean", "-m", default="mean.npy", help="written by compute_mean.py")
    data.add_argument("--classes", type=types.whole(1), default=1000, help="labels are below this")
    data.add_argument(
        "--loaderjob",
        "-j",
        type=types.whole(0),
        help="threads or processes that load images; by default the cores, shared by the "
        "processes of a machine; 0 and 1 load in the main thread",
    )
    data.add_argument(
        "--iterator",
        type=types.name_of("iterator", choices.ITERATORS),
        default="thread",
        help="what loads them: " + ", ".join(choices.ITERATORS),
    )
    data.add_argument(
        "--loadtype",
        type=types.name_of("loadtype", choices.LOADTYPES),
        default="original",
        help="original reads an image whenever it is needed; custom keeps the files of this "
        "process's share in memory, which it then trains on alone",
    )
    data.add_argument(
        "--skip-broken",
        action="store_true",
        help="read every image before the start, name those that cannot be used on standard "
        "error, and train without them; otherwise the first one ends the run",
    )


def _add_model(model: argparse._ArgumentGroup) -> None:
    known = ", ".join(ARCHITECTURES)
    model.add_argument(
        "--arch",
        "-a",
        type=types.name_of("architecture", ARCHITECTURES),
        default="nin",
        help=known,
    )
    model.add_argument(
        "--insize",
        "-is",
        type=types.whole(1),
        help="image side in pixels; by default the one that the architecture was published with",
    )
    model.add_argument("--initmodel", metavar="NPZ", help="weights to start from")


def _add_training(run: argparse._ArgumentGroup) -> None:
    run.add_argument(
        "--batchsize", "-B", type=types.whole(1), default=32, help="images a batch, per process"
    )
    run.add_argument(
        "--accumulate", type=types.whole(1), default=1, help="batches an update (an iteration)"
    )
    run.add_argument("--val_batchsize", "--val-batchsize", "-b", type=types.whole(1), default=250)
    run.add_argument("--epoch", "-E", type=types.whole(1), default=10, help="sweeps over TRAIN")
    run.add_argument(
        "--iteration", "-i", type=types.whole(0), default=0, help="if above 0, instead of --epoch"
    )
    run.add_argument(
        "--seed", type=types.whole(0, 2**32 - 1), default=0, help="same seed, same result"
    )
    run.add_argument("--test", action="store_true", help="evaluate and log every 10 iterations")


def _add_optimizer(run: argparse._ArgumentGroup) -> None:
    run.add_argument(
        "--optimizer",
        type=types.name_of("optimizer", choices.OPTIMIZERS),
        default="momentum_sgd",
        help=", ".join(choices.OPTIMIZERS),
    )
    run.add_argument(
        "--lr",
        type=types.positive,
        help="learning rate; by default 0.01, for adam 0.001, and for rmsprop_warmup 0.1 for "
        "every 256 images of an update",
    )
    run.add_argument(
        "--schedule",
        type=types.name_of("schedule", choices.SCHEDULES),
        default="step",
        help="how the learning rate falls: step (see below), poly (to nothing at the end), fixed",
    )
    run.add_argument(
        "--lr-step", type=types.whole(1), help="with step: epochs until it falls, again; 30"
    )
    run.add_argument(
        "--lr-steps", type=types.epochs, metavar="N,N...", help="with step: the epochs it falls at"
    )
    run.add_argument("--lr-gamma", type=types.positive, default=0.1, help="what it falls to")
    run.add_argument("--lr-power", type=types.positive, default=1.0, help="with poly: the power")
    run.add_argument("--momentum", type=types.number, default=0.9)
    run.add_argument("--weight-decay", type=types.number, default=1e-4, help="towards 0, by L2")
    run.add_argument("--l1-decay", type=types.number, default=0.0, help="the same by L1")
    run.add_argument("--bias-rate", type=types.positive, default=1.0, help="factor of biases' --lr")
    run.add_argument("--no-bias-decay", action="store_true", help="let biases be by weight decay")


def _add_results(files: argparse._ArgumentGroup) -> None:
    files.add_argument("--out", "-o", default="result", help="directory for log and snapshots")
    files.add_argument("--resume", "-r", metavar="NPZ", help="snapshot to go on from")
    files.add_argument(
        "--autoload", action="store_true", help="go on from the newest snapshot in --out, if any"
    )
    files.add_argument(
        "--snapshot-every",
        type=types.whole(1),
        metavar="ITERATIONS",
        help="how often a snapshot is taken; by default whenever the network is evaluated",
    )
    files.add_argument(
        "--n-retains", type=types.whole(0), default=2, help="snapshots to keep, 0 for all"
    )


def _add_devices(devices: argparse._ArgumentGroup) -> None:
    devices.add_argument(
        *types.GPU_OPTIONS,
        dest="gpu",
        type=types.gpus,
        default=[],
        metavar="N [N...]",
        help="GPUs of this machine, one process for each; none by default",
    )
    devices.add_argument(
        "--processes", type=types.whole(1), help="how many on this machine, without a GPU; 1"
    )
    devices.add_argument(
        "--communicator",
        type=types.name_of("communicator", (*choices.COMMUNICATORS, *choices.OLD_COMMUNICATORS)),
        help="ChainerMN's, for several processes; pure_nccl with GPUs and naive without",
    )


def _add_memory(memory: argparse._ArgumentGroup) -> None:
    memory.add_argument(
        "--ooc",
        type=types.name_of("way to save memory", choices.OUT_OF_CORE),
        metavar="[" + "|".join(choices.OUT_OF_CORE) + "]",
        help="train within --device-memory; auto if nothing else is said",
    )
    memory.add_argument(
        "--device-memory",
        metavar="SIZE",
        help="such as 2GiB; most of it by default. Without a GPU it is RAM, shared by the "
        "processes of a machine",
    )
    memory.add_argument(
        "--host-memory",
        metavar="SIZE",
        help="with --gpu: pinned memory that takes the rest first, shared by the processes of a "
        "machine",
    )
    memory.add_argument("--spill-dir", metavar="DIR", help="where the rest goes; a fast disk")
