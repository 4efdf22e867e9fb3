"""From raw files to a trained network, in memory and out of core, on real images.

    python -m train.real_run fashion --out result/real/fashion
    python -m train.real_run stamps --out result/real/stamps

``fashion`` is Fashion-MNIST from Debian's package dataset-fashion-mnist; ``stamps`` is 16 folders
of photos and drawings from its package tuxpaint-stamps-default; any other word is a directory with
a folder of images for each class. Every step is a command of this project, printed as it is run.

Exit status: 0 done, and both networks are the same bit for bit; 1 they are not, or a step failed;
2 the images are not there.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from swapmem.files import replacing
from train import dataset, fashion_mnist
from train.demo import budget
from train.errors import InputError
from train.prepare.commands import prepare
from train.prepare.tree import EXTENSIONS

#: Where Debian's package tuxpaint-stamps-default has its folders.
STAMPS = "/usr/share/tuxpaint/stamps"

_ROOT = Path(__file__).resolve().parents[1]
_PROBE_ITERATIONS = 2


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        accuracy: Part of the validation images that are right, at the end.
        seconds: Of the training, evaluations included.
        budget_bytes: Memory that the arrays had; None for as much as they wanted.
    """

    accuracy: float
    seconds: float
    budget_bytes: int | None = None


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = _parser().parse_args(argv)
    out = Path(args.out or f"result/real/{Path(args.data).name}").resolve()
    console = Console(highlight=False, soft_wrap=True)
    try:
        classes = pack(args, out)
    except InputError as error:
        print(f"real_run: error: {error}", file=sys.stderr)
        return 2
    common = [
        *(str(out / name) for name in ("train.rec", "val.rec")),
        f"--mean={out / 'mean.npy'}", f"--classes={classes}", f"--arch={args.arch}",
        f"--insize={args.insize}", f"--batchsize={args.batchsize}", f"--lr={args.lr}",
        f"--val_batchsize={args.batchsize}",
        "--schedule=poly",
    ]  # fmt: skip
    length = [f"--iteration={args.iterations}"]
    in_core = _train([*common, *length], out / "in_core")
    needs = _needs([*common, f"--iteration={_PROBE_ITERATIONS}", *_spill(args)], out / "probe")
    budget_bytes, why = budget(needs, args.share)
    console.print(f"out of core in {budget_bytes >> 20} MiB: {why}")
    ooc = ["--ooc", f"--device-memory={budget_bytes}", *_spill(args)]
    out_of_core = _train([*common, *length, *ooc], out / "out_of_core", budget_bytes)
    same = _same(out, args.iterations)
    runs = {"in core": in_core, f"--ooc, {budget_bytes >> 20} MiB": out_of_core}
    linear = linear_accuracy(out, args.insize)
    console.print(_table(runs, linear, needs["peak_live_bytes"], same))
    result = {name: asdict(run) for name, run in runs.items()}
    with replacing(out / "real_run.json") as file:
        content = {"runs": result, "linear": linear, "peak": needs["peak_live_bytes"], "same": same}
        file.write(json.dumps(content, indent=2).encode())
    return 0 if same else 1


def pack(args: argparse.Namespace, out: Path) -> int:
    """Packs the images to ``train.rec`` and ``val.rec`` with their mean; returns the classes.

    Raises:
        InputError: The images are not there.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = out / "classes.txt"
    if args.data == "fashion":
        counts = {"train": args.images, "val": min(args.images, 10_000)}
        fashion_mnist.write_images(out / "images", counts=counts)
        roots = {name: out / "images" / name for name in ("train", "val")}
        for name, root in roots.items():
            prefix = out / name
            _prepare("list", prefix, root, "--classes", names, "--overwrite")
            _prepare("pack", prefix, root, "--pass-through", "--overwrite")
    else:
        root = Path(STAMPS if args.data == "stamps" else args.data)
        if not root.is_dir():
            raise InputError(
                f"{root}: there is no such directory; Debian's package is tuxpaint-stamps-default"
            )
        root = _gather(root, out / "images", 2 * args.per_class)
        split = ["--per-class", args.per_class, "--classes", names, "--overwrite"]
        _prepare("split", root, "--list", out / "part", *split)
        for name in ("train", "val"):
            (out / f"part_{name}.lst").replace(out / f"{name}.lst")
            side = str(args.insize * 9 // 8)
            _prepare(
                "pack", out / f"{name}.lst", root, "--center-crop", "--resize", side, "--quality",
                "90", "--overwrite",
            )  # fmt: skip
    _prepare("mean", out / "train.rec", "--output", out / "mean.npy")
    return sum(1 for line in names.read_text().splitlines() if line)


def _gather(root: Path, target: Path, least: int) -> Path:
    """Links the images of each folder, however deep they lie, into one folder without others.

    Folders with fewer than `least` images are left out: what is to be validated would be missed.
    """
    shutil.rmtree(target, ignore_errors=True)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        images = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in EXTENSIONS]
        if len(images) < least:
            continue
        (target / folder.name).mkdir(parents=True)
        for image in images:
            name = "_".join(image.relative_to(folder).parts)
            (target / folder.name / name).symlink_to(image.resolve())
    if not target.exists():
        raise InputError(f"{root}: has no folder of {least} images or more")
    return target


def linear_accuracy(out: Path, insize: int) -> float:
    """Returns what logistic regression reaches on the same pixels."""
    from sklearn.linear_model import LogisticRegression

    mean = dataset.read_mean(out / "mean.npy")
    parts = []
    for name in ("train", "val"):
        crops = dataset.CentreCrops(dataset.open_images(out / f"{name}.rec"), mean, insize)
        examples = [crops.example(index, 0) for index in range(len(crops))]
        pixels = np.stack([image.ravel() for image, _ in examples])
        parts.append((pixels, np.array([label for _, label in examples])))
    with warnings.catch_warnings():
        # That it could still get a little better is of no interest here.
        warnings.simplefilter("ignore")
        return float(LogisticRegression(max_iter=100).fit(*parts[0]).score(*parts[1]))


def _prepare(*words: Any) -> None:
    arguments = [str(word) for word in words]
    print(f"$ {shlex.join(['python', '-m', 'train.prepare', *arguments])}", flush=True)
    try:
        prepare.main(arguments)
    except SystemExit as end:
        if end.code:
            raise


def _train(options: Sequence[str], out: Path, budget_bytes: int | None = None) -> Outcome:
    _run(["-m", "train.train_imagenet", *options, f"--out={out}", "--iterator=thread"])
    last = json.loads((out / "log").read_text())[-1]
    return Outcome(last["validation/main/accuracy"], last["elapsed_time"], budget_bytes)


def _needs(options: Sequence[str], out: Path) -> dict[str, Any]:
    """Returns the memory manager's figures of a short run in as much memory as it likes."""
    _run(["-m", "train.train_imagenet", *options, f"--out={out}", "--iterator=thread", "--ooc"])
    found: dict[str, Any] = json.loads((out / "swap_report.json").read_text())
    return found


def _run(words: Sequence[Any]) -> None:
    command = [sys.executable, *map(str, words)]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    done = subprocess.run(command, cwd=_ROOT)
    if done.returncode != 0:
        sys.exit(f"real_run: the step failed with status {done.returncode}, see above")


def _same(out: Path, iterations: int) -> bool:
    names = (out / run / f"model_iter_{iterations}" for run in ("in_core", "out_of_core"))
    one, other = (np.load(name) for name in names)
    return all(np.array_equal(one[name], other[name]) for name in one)


def _table(runs: dict[str, Outcome], linear: float, peak_bytes: int, same: bool) -> Table:
    weights = "the same bit for bit" if same else "DIFFERENT, which is a bug"
    table = Table(
        "", "accuracy", "seconds",
        caption=f"needs {peak_bytes >> 20} MiB; weights in and out of core: {weights}",
    )  # fmt: skip
    for name, run in runs.items():
        table.add_row(name, f"{run.accuracy:.2%}", f"{run.seconds:,.0f}")
    table.add_row("logistic regression", f"{linear:.2%}", "")
    return table


def _spill(args: argparse.Namespace) -> list[str]:
    return [f"--spill-dir={args.spill_dir}"] if args.spill_dir else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="real_run",
        description="Train on real images in memory and out of core, and compare.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data", help="fashion, stamps, or a directory")
    parser.add_argument("--out", "-o", help="directory for all files; result/real/DATA")
    parser.add_argument("--arch", default="jacintonet11")
    parser.add_argument("--insize", type=int, default=28, help="image side in pixels")
    parser.add_argument("--images", type=int, default=10_000, help="fashion: for training")
    parser.add_argument("--per-class", type=int, default=5, help="otherwise: for validation")
    parser.add_argument("--batchsize", type=int, default=64, help="images an iteration")
    parser.add_argument("--iterations", type=int, default=1500, help="updates of each run")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate at the start")
    parser.add_argument("--share", type=float, default=0.25, help="of the memory, out of core")
    parser.add_argument("--spill-dir", help="where the swapped-out bytes go; a fast disk")
    return parser


if __name__ == "__main__":
    sys.exit(main())
