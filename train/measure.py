"""Trains for a few iterations and measures: for the demo and the benchmarks."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import chainer
import numpy as np

import swapmem
from swapmem.chainer import BackwardOnce
from swapmem.planner.plan import Plan

COUNTED = (
    "faults",
    "plan_misses",
    "unplanned_evictions",
    "stall_seconds",
    "swap_out_bytes",
    "swap_in_bytes",
)
_FORESEEN = (
    "seconds",
    "compute_seconds",
    "bound_seconds",
    "peak_bytes",
    "out_bytes",
    "in_bytes",
)


@dataclass(frozen=True)
class Measurement:
    """What a run of a few iterations took.

    Attributes:
        seconds: wall time of each iteration, without the loading of its images.
        losses: loss of each iteration.
        rss_before_bytes: resident set before the model was made, with everything imported.
        rss_peak_bytes: the largest resident set of the process so far.
        weights: SHA-256 over names and values of all that a snapshot of the model holds.
        stats: ``Manager.stats()`` after the last iteration; empty without a manager.
        counts: for each iteration, by how much some of the stats grew in it; see `COUNTED`.
        foreseen: what the plan of the last iteration promised; empty if it followed none:
            ``seconds``, ``compute_seconds``, ``bound_seconds``, ``peak_bytes``, ``out_bytes``,
            ``in_bytes``.
        page_faults: for each iteration, how often the system had to find memory for an address.
        learning: how many iterations went by before the plan of the last one was the one to stay:
            the first, which makes the optimizer's state and warms every cache, those with other
            plans, and the first one with this plan, which began as they had left it.
    """

    seconds: list[float]
    losses: list[float]
    rss_before_bytes: int
    rss_peak_bytes: int
    weights: str
    stats: dict[str, Any]
    counts: list[dict[str, float]] = field(default_factory=list)
    page_faults: list[int] = field(default_factory=list)
    foreseen: dict[str, float] = field(default_factory=dict)
    learning: int = 1

    @property
    def steady_seconds(self) -> list[float]:
        """Iterations but the first, which makes the optimizer's state and warms every cache."""
        return self.seconds[1:]


@contextlib.contextmanager
def memory_of(
    kind: Literal["stock", "swapmem"], budget_bytes: int | None, **options: Any
) -> Iterator[swapmem.Manager | None]:
    """What a run trains in: a manager, with a budget also freeing what backward has passed.

    Without a budget nothing is freed early: in core is what plain Chainer needs.

    Args:
        kind: "stock" for no manager.
        budget_bytes: the manager's; None for its default.
        options: further arguments of the manager.

    Returns:
        A context with the manager, or None.

    Example:
        >>> with memory_of("swapmem", 2 << 30, plan="swap") as memory:
        ...     measure(make_model, batches, 4, 0, memory)
    """
    if kind == "stock":
        yield None
        return
    freeing = contextlib.nullcontext() if budget_bytes is None else BackwardOnce()
    with swapmem.Manager(device="host", device_memory=budget_bytes, **options) as memory, freeing:
        yield memory


def measure(
    make_model: Any,
    batches: Iterator[Any],
    iterations: int,
    seed: int,
    memory: swapmem.Manager | None,
) -> tuple[Measurement, chainer.Chain]:
    """Trains with momentum, as train_imagenet.py does.

    Args:
        make_model: makes a model, called once; the weights it draws depend on ``seed`` alone.
        batches: lists of examples (float32 (3, H, W), int32 ()).
        iterations: how many updates.
        seed: of weights and dropout.
        memory: the active manager, or None where there is none.

    Returns:
        The measurement and the trained model.
    """
    rss_before_bytes = rss_bytes("VmRSS")
    np.random.seed(seed)
    model = make_model()
    optimizer = chainer.optimizers.MomentumSGD(lr=0.01, momentum=0.9).setup(model)
    reporter = chainer.Reporter()
    reporter.add_observer("main", model)
    seconds, losses = [], []
    counts: list[dict[str, float]] = []
    page_faults: list[int] = []
    plans: list[Plan | None] = []
    before = _counted(memory)
    for _ in range(iterations):
        batch = next(batches)
        faults_before = _page_faults()
        begin = time.perf_counter()
        images, labels = chainer.dataset.concat_examples(batch)
        with reporter:
            optimizer.update(model, images, labels)
        seconds.append(time.perf_counter() - begin)
        page_faults.append(_page_faults() - faults_before)
        losses.append(float(reporter.observation["main/loss"].array))
        after = _counted(memory)
        counts.append({key: after[key] - before[key] for key in after})
        before = after
        plans.append(memory.planned().get("plan") if memory is not None else None)
    plan = plans[-1]
    measurement = Measurement(
        seconds=seconds,
        losses=losses,
        rss_before_bytes=rss_before_bytes,
        rss_peak_bytes=rss_bytes("VmHWM"),
        # Before the weights are looked at, which swaps them in.
        stats=memory.stats() if memory is not None else {},
        weights=digest(model),
        counts=counts,
        page_faults=page_faults,
        foreseen={key: getattr(plan, key) for key in _FORESEEN} if plan is not None else {},
        learning=_learning(plans),
    )
    return measurement, model


def _learning(plans: list[Plan | None]) -> int:
    """How many iterations do not count, of those that ended with these plans."""
    last = plans[-1]
    begun = len(plans) - next(
        (i for i, plan in enumerate(reversed(plans)) if plan is not last), len(plans)
    )
    return max(1, begun + (last is not None))


def _counted(memory: swapmem.Manager | None) -> dict[str, float]:
    if memory is None:
        return {}
    stats = memory.stats()
    return {key: stats[key] for key in COUNTED}


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def rss_bytes(field: str) -> int:
    """Returns VmRSS or VmHWM of this process, in bytes.

    getrusage's maximum will not do: it starts at the parent's, which lives on through exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def digest(model: chainer.Chain) -> str:
    """Returns the SHA-256 over names and values of all that a snapshot of the model holds."""
    sha = hashlib.sha256()
    for name, array in sorted(chainer.serializers.npz.serialize(model).items()):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
