"""What the benchmarks share: training runs in processes of their own, samples, and bars."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from train.measure import Measurement

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """One training run on random images and labels.

    Attributes:
        arch: a key of train.models.ARCHITECTURES.
        insize: height and width of the images in pixels.
        batch: images an iteration.
        iterations: how many updates.
        memory: "stock" is NumPy as it comes; "swapmem" a host manager.
        budget_bytes: the manager's budget; None leaves it unlimited, that is 80 % of the RAM.
        plan: what the manager plans: "auto", "swap", "recompute" or "none".
        seed: of weights, images, labels and dropout.
    """

    arch: str
    insize: int
    batch: int
    iterations: int = 3
    memory: Literal["stock", "swapmem"] = "swapmem"
    budget_bytes: int | None = None
    plan: Literal["auto", "swap", "recompute", "none"] = "auto"
    seed: int = 0

    def __str__(self) -> str:
        names = {
            "googlenet": "GoogLeNet",
            "resnet50": "ResNet50",
            "jacintonet11": "JacintoNet11",
        }
        return f"{names[self.arch]} {self.insize} batch {self.batch}"


class RunFailed(Exception):
    """A training run ended with an error; ``status`` is negative for a signal."""

    def __init__(self, case: Case, status: int, stderr: str) -> None:
        super().__init__(f"{case} ended with {status}:\n{stderr[-4000:]}")
        self.status = status


class _Run:
    """A run in a process of its own that does an iteration when it is told to."""

    def __init__(self, case: Case, prefix: Sequence[str]) -> None:
        self._case = case
        module = [sys.executable, "-m", "bench.child_in_turn"]
        self._command = [*prefix, *module, json.dumps(asdict(case))]

    def __enter__(self) -> _Run:
        self._stderr = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.__exit__(None, None, None)
        self._stderr.close()

    def step(self) -> str:
        """Lets it do an iteration, and returns what it said then."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` will say why it ended
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        """Waits until it is ready for an iteration, or has ended, and returns what it said."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._stderr.seek(0)
            raise RunFailed(self._case, status, self._stderr.read())
        return line


def train_in_turn(
    cases: Sequence[Case], alone: int = 0, prefix: Sequence[str] = ()
) -> list[Measurement]:
    """Runs cases in processes of their own: an iteration of the first, one of the second, ...

    So a slow minute hits all of them, even where a run takes minutes. While one works, the others
    wait.

    Args:
        cases: what to train; each has the same number of iterations.
        alone: how many iterations, but not all, each does at once before they take turns: a plan
            counts the time between iterations, so none is to be learnt with waits between them.
        prefix: a command that is given the runs' command lines as further arguments.

    Returns:
        What each measured.

    Raises:
        RunFailed: a run failed; the end of its standard error is in the message.
    """
    (iterations,) = {case.iterations for case in cases}
    with contextlib.ExitStack() as stack:
        runs: list[_Run] = []
        for case in cases:
            runs.append(stack.enter_context(_Run(case, prefix)))
            runs[-1].answer()
            for _ in range(alone):
                runs[-1].step()
        for _ in range(iterations - alone):
            answers = [run.step() for run in runs]
        return [Measurement(**json.loads(answer)) for answer in answers]


def train(case: Case, prefix: Sequence[str] = ()) -> Measurement:
    """Runs one case, see `train_in_turn`."""
    return train_in_turn([case], prefix=prefix)[0]


def share_of(stats: dict[str, Any], share: float) -> tuple[int, str]:
    """Chooses a budget.

    Args:
        stats: of a run in core.
        share: of its peak.

    Returns:
        A share of the in-core peak in bytes, or what the largest op needs if that is more; and what
        to call it, with the op.
    """
    wanted = int(stats["peak_live_bytes"] * share)
    if wanted >= stats["largest_op_bytes"]:
        return wanted, f"{share:.0%}"
    share = stats["largest_op_bytes"] / stats["peak_live_bytes"]
    return stats["largest_op_bytes"], f"{share:.0%} (minimum of {stats['largest_op']})"


@dataclass(frozen=True)
class Bar:
    """A measured ratio beside the figure it has to reach.

    Attributes:
        what: what was measured.
        unit: of both series.
        ours: samples of swapmem.
        reference: samples of what it is compared with, taken in turn with ours.
        against: what that is.
        limit: the bar for median(ours) / median(reference).
        at_least: whether the ratio has to reach the limit or to stay within it.
    """

    what: str
    unit: str
    ours: list[float]
    reference: list[float]
    against: str
    limit: float
    at_least: bool = False

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.reference)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of two samples that were taken in one turn."""
        pairs = [ours / other for ours, other in zip(self.ours, self.reference, strict=True)]
        return min(pairs), max(pairs)

    @property
    def met(self) -> bool:
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit

    def __str__(self) -> str:
        bound = ">=" if self.at_least else "<="
        low, high = self.spread
        return (
            f"{self.what}: {self.ratio:.2f}x of {self.against} "
            f"({low:.2f} to {high:.2f}), bar {bound} {self.limit:g}x"
        )


class Bars:
    """Collects the bars of a session; ``check`` fails the benchmark whose bar is not met."""

    def __init__(self) -> None:
        self.all: list[Bar] = []
        self.notices: list[str] = []

    def check(self, bar: Bar) -> None:
        self.all.append(bar)
        assert bar.met, str(bar)

    def note(self, text: str) -> None:
        """Keeps a line for the report: what was not measured, or how it was."""
        self.notices.append(text)


def interleave(
    benchmark: Any,
    ours: Callable[[], float],
    reference: Callable[[], float],
    rounds: int,
) -> tuple[list[float], list[float]]:
    """Measures reference, ours, reference, ours ... so that a slow minute hits both.

    Args:
        benchmark: pytest-benchmark's fixture; its own times are those of ``ours``.
        ours: measures once and returns the figure.
        reference: likewise.
        rounds: how often each is measured.

    Returns:
        The figures of ``ours`` and of ``reference``, ``rounds`` of each.
    """
    our_figures: list[float] = []
    reference_figures: list[float] = []
    benchmark.pedantic(
        lambda: our_figures.append(ours()),
        setup=lambda: reference_figures.append(reference()),
        rounds=rounds,
    )
    return our_figures, reference_figures
