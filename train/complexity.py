"""What the networks cost: multiplications, parameters and memory, beside what was published.

python -m train.complexity --arch jacintonet11 resnet10 alex
python -m train.complexity --arch googlenet --insize 2240 --device-memory 2GiB --spill-dir /nvme/tmp
"""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import chainer
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import swapmem
import swapmem.chainer
from swapmem.sizes import format_bytes
from train import option_types as types
from train.macs import MacHook
from train.models import ARCHITECTURES
from train.models.network import Network
from train.published import PUBLISHED, Published

#: Columns of the table where the output is no terminal.
_WIDTH = 160

#: What the table counts, printed below it.
CONVENTION = """\
MACs: products of a weight and an input value, in convolutions and linear layers, for the scores
of one image; not counted are biases, normalizations, poolings and auxiliary classifiers.
Activations: what the forward pass leaves for the backward pass. Op minimum: what the largest
operation of a training step works on, the smallest budget that it can run in; to draw the first
values of a parameter takes three times its size. Both are measured in a step with momentum, in
arrays of 64 KiB and more, for batches of {batch_size}."""


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        layer_macs: multiply-accumulates for one image, by the name of each weight.
        parameters: values that are trained, auxiliary classifiers included.
        activation_bytes: what the forward pass leaves for the backward pass.
        op_minimum_bytes: what the largest operation of a training step works on.
        largest_op: which operation that is.
    """

    layer_macs: dict[str, int]
    parameters: int
    activation_bytes: int
    op_minimum_bytes: int
    largest_op: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates for the scores of one image."""
        return sum(
            macs for name, macs in self.layer_macs.items() if not name.startswith("/auxiliary")
        )


def measure(
    architecture: type[Network],
    insize: int,
    classes: int = 1000,
    batch_size: int = 1,
    device_memory: int | str | None = None,
    spill_dir: str | None = None,
) -> Complexity:
    """Runs one training step on random images and looks at what it takes.

    Args:
        architecture: One of ARCHITECTURES.
        insize: Height and width of the images in pixels.
        classes: Number of classes.
        batch_size: Images in the step.
        device_memory: Budget of the step, see swapmem.Manager; changes none of the figures.
        spill_dir: Where what exceeds it goes.

    Raises:
        ValueError: The architecture does not take this insize.
        swapmem.OutOfMemory: The largest operation needs more than `device_memory`.

    Example:
        >>> measure(ARCHITECTURES["jacintonet11"], 224).macs
        406288384
    """
    random = np.random.default_rng(0)
    with _single_images(), swapmem.Manager("host", device_memory, spill_dir) as memory:
        model = architecture(insize, classes)
        optimizer = chainer.optimizers.MomentumSGD().setup(model)
        images = random.standard_normal((batch_size, 3, insize, insize), np.float32)
        labels = random.integers(0, classes, batch_size, np.int32)
        before_bytes = memory.stats()["live_bytes"]
        with MacHook(model) as hook:
            loss = model(images, labels)
        activation_bytes = memory.stats()["live_bytes"] - before_bytes
        model.cleargrads()
        loss.backward()
        optimizer.update()
    # An update is held as one operation where there is room for it, and else works in steps.
    ops = [op for op in memory.stats()["by_op"] if not op["op"].endswith(" update")]
    largest = max(ops, key=lambda op: int(op["peak_bytes"]))
    return Complexity(
        layer_macs={name: macs // batch_size for name, macs in hook.macs.items()},
        parameters=model.count_params(),
        activation_bytes=activation_bytes,
        op_minimum_bytes=largest["peak_bytes"],
        largest_op=largest["op"],
    )


@contextlib.contextmanager
def _single_images() -> Iterator[None]:
    """Silences Chainer, which warns of normalizing batches of one image: nothing is learnt here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A batch with no more than one sample", UserWarning)
        yield


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = _parser().parse_args(argv)
    table = Table(
        *("network", "insize", "GMACs", "published", "parameters", "activations", "op minimum"),
        *("largest op", "top-1", "top-5"),
        box=box.SIMPLE,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    notes = []
    for name in args.arch or ARCHITECTURES:
        insize = args.insize or ARCHITECTURES[name].default_insize
        published = _published(name, insize, args.classes)
        try:
            table.add_row(*_cells(name, insize, _measured(name, insize, args), published))
        except (ValueError, swapmem.StoreError) as error:
            return _failed(2, name, error)
        except swapmem.Error as error:
            return _failed(1, name, error)
        if published.note:
            notes.append(f"{name}: {published.note}")
    # Piped, a table is not squeezed into 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table, CONVENTION.format(batch_size=args.batchsize), *notes, sep="\n")
    return 0


def _measured(name: str, insize: int, args: argparse.Namespace) -> Complexity:
    return measure(
        ARCHITECTURES[name],
        insize,
        args.classes,
        args.batchsize,
        args.device_memory,
        args.spill_dir,
    )


def _published(name: str, insize: int, classes: int) -> Published:
    if insize != ARCHITECTURES[name].default_insize or classes != 1000:
        return Published()
    return PUBLISHED.get(name, Published())


def _cells(name: str, insize: int, ours: Complexity, published: Published) -> list[str]:
    return [
        name,
        str(insize),
        f"{ours.macs / 1e9:.4f}",
        _shown(published.gmacs, "{:.3f}"),
        f"{ours.parameters:,}",
        format_bytes(ours.activation_bytes),
        format_bytes(ours.op_minimum_bytes),
        ours.largest_op,
        _shown(published.top1, "{:g}"),
        _shown(published.top5, "{:g}"),
    ]


def _shown(figure: float | None, form: str) -> str:
    return "-" if figure is None else form.format(figure)


def _failed(status: int, name: str, error: Exception) -> int:
    print(f"complexity: error: {name}: {error}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="complexity",
        description="Print what the networks cost, beside what was published.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--arch",
        "-a",
        nargs="+",
        type=types.name_of("architecture", ARCHITECTURES),
        help="by default all: " + ", ".join(ARCHITECTURES),
    )
    parser.add_argument(
        "--insize",
        type=types.whole(1),
        help="image side in pixels; by default the one that each was published with",
    )
    parser.add_argument("--classes", type=types.whole(1), default=1000, help="number of classes")
    parser.add_argument(
        "--batchsize", "-B", type=types.whole(1), default=1, help="images of the step"
    )
    parser.add_argument(
        "--device-memory", metavar="SIZE", help="run the step in so much; changes no figure"
    )
    parser.add_argument("--spill-dir", metavar="DIR", help="where the rest goes; a fast disk")
    return parser


if __name__ == "__main__":
    sys.exit(main())
