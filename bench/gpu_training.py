"""Training on a GPU in core and out of core, side by side."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.gpu_parts import Part, PartResult
from bench.gpu_train import GpuCase, GpuRun

SHARE = 0.25
CASES = [
    GpuCase("googlenet", 448, 32, "cupy"),
    GpuCase("resnet50", 448, 16, "cupy"),
]
_NAMES = {"googlenet": "GoogLeNet", "resnet50": "ResNet50"}
_LIMIT_SECONDS = 60.0
_MANAGED = "not asked for (--managed): more managed memory than the device has free can hang a GPU"


@dataclass(frozen=True)
class Link:
    """Rates of the raw pinned copy, in bytes per second; 0 where they were not measured."""

    out_rate: float
    in_rate: float


@dataclass(frozen=True)
class Comparison:
    """One network in core and out of core.

    Attributes:
        what: network, size and batch.
        error: why there are no figures, "" if there are.
        identical_without_limit: whether the weights out of core are those of a manager without a
            limit, bit for bit.
        identical_to_cupy: likewise those on CuPy as it comes.
        peak_bytes: of all arrays, in core.
        budget_bytes: of the run out of core.
        in_core_seconds: one iteration, on CuPy as it comes; each sample.
        unlimited_seconds: likewise in a manager without a limit.
        out_of_core_seconds: likewise within the budget.
        managed_seconds: likewise on CuPy's managed memory at the same limit.
        managed_reason: why there is none of that.
        out_bytes: swapped out in one iteration.
        in_bytes: swapped in in one iteration.
        bound_seconds: no swapping can be faster: max(in core, bytes each way / link).
        stats: of the run out of core.
    """

    what: str
    error: str = ""
    identical_without_limit: bool = False
    identical_to_cupy: bool = False
    peak_bytes: int = 0
    budget_bytes: int = 0
    in_core_seconds: Sequence[float] = ()
    unlimited_seconds: Sequence[float] = ()
    out_of_core_seconds: Sequence[float] = ()
    managed_seconds: Sequence[float] = ()
    managed_reason: str = ""
    out_bytes: float = 0.0
    in_bytes: float = 0.0
    bound_seconds: float = 0.0
    stats: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """Whether out of core changed nothing."""
        return not self.error and self.identical_without_limit and self.identical_to_cupy


class RunFailed(Exception):
    """A training run gave no figures."""


def command(case: GpuCase) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "bench.gpu_train", json.dumps(asdict(case))]


def compare(
    case: GpuCase,
    link: Link,
    managed: bool,
    run: Callable[[Part], PartResult],
    command: Callable[[GpuCase], Sequence[str]] = command,
) -> Comparison:
    """Trains one network in core, without a limit, and at a quarter of what it needs.

    Args:
        case: the run in core.
        link: what the bound is made of.
        managed: whether to train on CuPy's managed memory as well.
        run: carries a run out.
        command: makes its command line.
    """
    what = f"{_NAMES.get(case.arch, case.arch)} {case.insize} batch {case.batch}"

    def train(variant: GpuCase) -> GpuRun:
        name = f"{what}, {variant.memory}"
        result = run(Part(name, [command(variant)], _LIMIT_SECONDS))
        if result.status != "passed":
            raise RunFailed(f"{name}: {result.status}: {result.reason}: {result.last_line}")
        try:
            return GpuRun(**json.loads(result.last_line))
        except (ValueError, TypeError):
            raise RunFailed(f"{name}: printed no result: {result.last_line}") from None

    try:
        in_core = train(case)
        unlimited = train(replace(case, memory="swapmem"))
        peak_bytes = unlimited.stats["peak_live_bytes"]
        # One op's arrays have to fit together.
        budget_bytes = max(int(SHARE * peak_bytes), unlimited.stats["largest_op_bytes"])
        limited = train(
            replace(case, memory="swapmem", budget_bytes=budget_bytes, host_bytes=2 * peak_bytes)
        )
    except RunFailed as error:
        return Comparison(what, error=str(error))
    managed_seconds: list[float] = []
    reason = "" if managed else _MANAGED
    if managed:
        try:
            managed_seconds = steady(
                train(replace(case, memory="managed", budget_bytes=budget_bytes))
            )
        except RunFailed as error:
            reason = str(error)
    out_bytes = limited.stats["swap_out_bytes"] / len(limited.seconds)
    in_bytes = limited.stats["swap_in_bytes"] / len(limited.seconds)
    return Comparison(
        what,
        identical_without_limit=limited.weights == unlimited.weights,
        identical_to_cupy=limited.weights == in_core.weights,
        peak_bytes=peak_bytes,
        budget_bytes=budget_bytes,
        in_core_seconds=steady(in_core),
        unlimited_seconds=steady(unlimited),
        out_of_core_seconds=steady(limited),
        managed_seconds=managed_seconds,
        managed_reason=reason,
        out_bytes=out_bytes,
        in_bytes=in_bytes,
        bound_seconds=bound(statistics.median(steady(in_core)), out_bytes, in_bytes, link),
        stats=limited.stats,
    )


def steady(run: GpuRun) -> list[float]:
    """Iterations but the first, which compiles kernels and warms every cache."""
    return run.seconds[1:]


def bound(compute_seconds: float, out_bytes: float, in_bytes: float, link: Link) -> float:
    """The least time that an iteration can take, if all copies hide behind the computation."""
    seconds = [compute_seconds]
    if link.out_rate > 0:
        seconds.append(out_bytes / link.out_rate)
    if link.in_rate > 0:
        seconds.append(in_bytes / link.in_rate)
    return max(seconds)
