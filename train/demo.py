"""Trains a network in a fraction of the memory it needs, and shows that nothing else changed.

    python train/demo.py --out result/demo

Three runs on the same real images from the same seed, each in a process of its own: stock NumPy;
swapmem with an unlimited budget; swapmem out of core, at a quarter of what the network needs. Exit
status: 0 the weights of the last two are identical; 1 they are not, or a run failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a file, Python looks for modules beside it and not where the package lies.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

from train import demo_images
from train.compute_mean import mean_image
from train.demo_run import Run
from train.imagelist import read_list
from train.measure import Measurement

_ROOT = Path(__file__).resolve().parents[1]
#: How much larger the image files are than the crops that are cut from them.
_MARGIN_PIXELS = 32
_MIB = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = _parser().parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    out = Path(args.out).resolve()
    base = _prepare(args, out, console)

    console.print("1/3  in core, stock NumPy ...")
    stock = _carry_out(base)
    console.print("2/3  swapmem, unlimited budget ...")
    unlimited = _carry_out(replace(base, memory="swapmem", weights=str(out / "unlimited.npz")))
    budget_bytes, why = budget(unlimited.stats, args.share)
    console.print(f"3/3  swapmem, out of core in {_mib(budget_bytes)}: {why} ...")
    picture = out / "residency.png"
    out_of_core = _carry_out(
        replace(
            base,
            memory="swapmem",
            budget_bytes=budget_bytes,
            weights=str(out / "out_of_core.npz"),
            picture=str(picture),
        )
    )

    runs = {"stock NumPy": stock, "unlimited": unlimited, "out of core": out_of_core}
    taken = settled(runs)
    console.print(table(runs, taken))
    console.print(f"Seconds per iteration: {how_taken(out_of_core, taken)}.")
    identical = out_of_core.weights == unlimited.weights
    console.print("Weights, out of core against unlimited:", _verdict(out, "unlimited.npz"))
    console.print("Weights, out of core against stock NumPy:", _verdict(out, "stock.npz"))
    console.print(f"Residency over one iteration: {picture}\n")
    console.print(conclusion(runs, taken, budget_bytes, identical))
    return 0 if identical else 1


def budget(stats: dict[str, Any], share: float) -> tuple[int, str]:
    """Picks the budget of the run out of core.

    Args:
        stats: ``Manager.stats()`` of the run with an unlimited budget.
        share: how much of its peak is wanted.

    Returns:
        Bytes: the share of the peak, or what the largest op needs if that is more; and which.
    """
    peak_bytes, least_bytes = stats["peak_live_bytes"], stats["largest_op_bytes"]
    wanted_bytes = int(peak_bytes * share)
    if wanted_bytes >= least_bytes:
        return wanted_bytes, f"{share:.0%} of the {_mib(peak_bytes)} that the network needs"
    return (
        least_bytes,
        f"the least that its largest op, {stats['largest_op']}, can work in; "
        f"{least_bytes / peak_bytes:.0%} of the {_mib(peak_bytes)} that the network needs",
    )


def settled(runs: dict[str, Measurement]) -> slice:
    """The iterations by which runs are compared: with a plan to stay, the last one at least."""
    count = len(runs["out of core"].seconds)
    return slice(min(max(run.learning for run in runs.values()), count - 1), count)


def how_taken(out_of_core: Measurement, taken: slice) -> str:
    """Says which iterations the times are of, and why."""
    if out_of_core.learning > taken.start:
        return f"of iteration {taken.stop}, the last; its plan may not be the one to stay"
    first, last = taken.start + 1, taken.stop
    which = f"of iteration {last}" if first == last else f"median of iterations {first} to {last}"
    return f"{which}; from those before, the plan was learnt"


def table(runs: dict[str, Measurement], taken: slice) -> Table:
    """Lays the runs out side by side; their times are those of some of the iterations."""
    result = Table("", *runs)
    for column in result.columns[1:]:
        column.justify = "right"

    def row(name: str, text: Any) -> None:
        result.add_row(name, *(text(run) for run in runs.values()))

    def figure(key: str, text: Any) -> Any:
        return lambda run: text(run.stats[key]) if run.stats else "-"

    row("budget", figure("budget_bytes", _mib))
    row("peak charged to it", figure("peak_charged_bytes", _mib))
    row("peak of all blocks", figure("peak_live_bytes", _mib))
    row("peak RSS", lambda run: _mib(run.rss_peak_bytes))
    row("  RSS after imports", lambda run: _mib(run.rss_before_bytes))
    row("seconds per iteration", lambda run: f"{statistics.median(run.seconds[taken]):.2f}")
    row("swapped out", figure("swap_out_bytes", _mib))
    row("swapped in", figure("swap_in_bytes", _mib))
    row("faults", figure("faults", str))
    row("stalls", figure("stall_seconds", lambda seconds: f"{seconds:.2f} s"))
    row("loss, first and last", lambda run: f"{run.losses[0]:.4f}, {run.losses[-1]:.4f}")
    row("SHA-256 of the weights", lambda run: run.weights[:12])
    return result


def conclusion(
    runs: dict[str, Measurement], taken: slice, budget_bytes: int, identical: bool
) -> str:
    """Says in one sentence what the table shows."""
    needs_bytes = runs["unlimited"].stats["peak_live_bytes"]
    seconds = {name: statistics.median(run.seconds[taken]) for name, run in runs.items()}
    ratio = seconds["out of core"] / seconds["stock NumPy"]
    same = "the same weights bit for bit" if identical else "DIFFERENT WEIGHTS, which is a bug"
    return (
        f"The network needs {_mib(needs_bytes)} and was trained in {_mib(budget_bytes)}: "
        f"{budget_bytes / needs_bytes:.0%} of the memory, {ratio:.2f} times the time of stock "
        f"NumPy in core, {same}."
    )


def _prepare(args: argparse.Namespace, out: Path, console: Console) -> Run:
    """Writes the images, their list and their mean; returns the run on stock NumPy."""
    source = demo_images.load(args.images)
    side = args.insize + _MARGIN_PIXELS
    console.print(f"{len(source.images)} images: {source.name}, enlarged to {side} x {side}")
    images = demo_images.write(source, out / "images", side)
    mean = out / "mean.npy"
    np.save(mean, mean_image(read_list(images, images.parent)))
    return Run(
        arch=args.arch,
        insize=args.insize,
        batchsize=args.batchsize,
        iterations=args.iterations,
        images=str(images),
        root=str(images.parent),
        mean=str(mean),
        weights=str(out / "stock.npz"),
        memory="stock",
        spill_dir=args.spill_dir,
    )


def _carry_out(run: Run) -> Measurement:
    """Runs in a process of its own, so that each has a peak of its own."""
    command = [sys.executable, "-m", "train.demo_run", json.dumps(asdict(run))]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"demo.py: the run failed with status {done.returncode}, see above")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def _verdict(out: Path, other: str) -> str:
    """Compares the weights of the run out of core with another run's."""
    with np.load(out / "out_of_core.npz") as ours, np.load(out / other) as theirs:
        differing = [name for name in ours if not np.array_equal(ours[name], theirs[name])]
        if not differing:
            return "identical, bit for bit"
        by = max(float(np.max(np.abs(ours[name] - theirs[name]))) for name in differing)
        return f"{len(differing)} of {len(ours.files)} arrays differ, by {by:.2g} at most"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.0f} MiB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo.py",
        description="Train in core and out of core, and compare.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", "-o", default="result/demo", help="directory for all files")
    parser.add_argument("--arch", default="googlenet", choices=["googlenet", "resnet50"])
    parser.add_argument("--insize", type=int, default=320, help="image side in pixels")
    parser.add_argument("--batchsize", type=int, default=8, help="images an iteration")
    parser.add_argument("--iterations", type=int, default=10, help="updates of each run, 2 or more")
    parser.add_argument("--images", type=int, default=400, help="how many image files to write")
    parser.add_argument("--share", type=float, default=0.25, help="of the memory, out of core")
    parser.add_argument("--spill-dir", help="where the swapped-out bytes go; a fast disk")
    return parser


if __name__ == "__main__":
    sys.exit(main())
