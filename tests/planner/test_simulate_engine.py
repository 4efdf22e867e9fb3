"""The simulator beside the engine: a plan's iterations, as they went and as they were foreseen.

How long an op takes changes from one iteration to the next, on a busy machine by more than any
plan is worth, and so does the speed of copies, which share the processors with the ops. So an
iteration is simulated with the times that its own ops took and the rates that its copies had: what
is compared is what the simulator makes of them, the stalls and the memory.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swapmem
import swapmem.chainer  # isort: split

from chainer import optimizers

from swapmem.planner.record import read
from swapmem.planner.simulate import Simulation, simulate
from swapmem.planner.trace import Rates, Trace
from swapmem.records import TraceEvent
from train.models import ARCHITECTURES

# Insize and batch: small enough for a test, large enough for most activations to be blocks.
SIZES = {
    "alex": (199, 2),
    "nin": (128, 2),
    "googlenet": (64, 4),
    "googlenetbn": (64, 4),
    "resnet50": (64, 2),
    "resnext50": (32, 2),
    "resnet10": (64, 8),
    "jacintonet11": (96, 8),
}
# All three budgets for the networks that the benchmarks train; planning is what takes time here.
MANY_SHARES = dict.fromkeys(("googlenet", "resnet50", "jacintonet11"), (0.5, 0.4, 0.25))
SHARES = dict.fromkeys(SIZES, (0.5,)) | MANY_SHARES
IN_EVERY_RUN = "googlenet"
MOST_ITERATIONS = 8
TIME_TOLERANCE, PEAK_TOLERANCE = 0.05, 0.01


class Watched(swapmem.Manager):
    """A manager that shows what its planner has made."""

    parts: Callable[[], dict[str, Any]]

    def add_run_parts(self, parts: Callable[[], dict[str, Any]]) -> None:
        self.parts = parts
        super().add_run_parts(parts)


@dataclass(frozen=True)
class Compared:
    """An iteration as it went, and as it is simulated with the times of its ops."""

    seconds: float
    stall_seconds: float
    peak_bytes: int
    out_bytes: int
    in_bytes: int
    disturbances: int
    simulated: Simulation

    @property
    def time_error(self) -> float:
        return self.simulated.seconds / self.seconds - 1

    @property
    def peak_error(self) -> float:
        return self.simulated.peak_bytes / self.peak_bytes - 1

    @property
    def agrees(self) -> bool:
        time, peak = abs(self.time_error), abs(self.peak_error)
        return time <= TIME_TOLERANCE and peak <= PEAK_TOLERANCE

    def __str__(self) -> str:
        s = self.simulated
        return (
            f"{self.seconds:.3f} s, simulated {s.seconds:.3f} s ({self.time_error:+.1%}); "
            f"stalls {self.stall_seconds:.3f} and {s.stall_seconds:.3f} s; "
            f"peak {mib(self.peak_bytes)} and {mib(s.peak_bytes)} ({self.peak_error:+.1%}); "
            f"out {mib(self.out_bytes)} and {mib(s.out_bytes)}; "
            f"in {mib(self.in_bytes)} and {mib(s.in_bytes)}; "
            f"{self.disturbances} faults and unplanned evictions"
        )


def mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def training(arch: str) -> Callable[[], None]:
    insize, batch = SIZES[arch]
    np.random.seed(0)
    model = ARCHITECTURES[arch]()
    optimizer = optimizers.MomentumSGD(lr=1e-4).setup(model)
    images = np.random.rand(batch, 3, insize, insize).astype(np.float32)
    labels = np.random.randint(10, size=batch).astype(np.int32)
    return lambda: optimizer.update(model, images, labels)


def in_core(arch: str, spill_dir: Path) -> dict[str, Any]:
    with swapmem.Manager(device_memory="8GiB", spill_dir=spill_dir) as memory:
        update = training(arch)
        for _ in range(2):
            update()
        return memory.stats()


def follow(arch: str, budget_bytes: int, spill_dir: Path) -> list[Compared]:
    """Iterations that ran with a plan, until one of them went as it is simulated."""
    compared: list[Compared] = []
    with Watched(device_memory=budget_bytes, spill_dir=spill_dir, plan="swap") as memory:
        update = training(arch)
        history: list[dict[str, Any]] = [{}, {}]  # what each iteration ran with
        counts = [0, 0]
        for _ in range(MOST_ITERATIONS):
            update()
            # This update's begin has ended the iteration before. One with a new plan begins as
            # the plan before has left it: only the next is in the steady state.
            earlier, ran_with = history[-2:]
            history.append(memory.parts())
            counts.append(disturbances_of(memory))
            if ran_with and earlier.get("plan") is ran_with["plan"]:
                disturbances = counts[-2] - counts[-3]
                trace, swaps = ran_with["trace"], ran_with["plan"].swaps
                compared.append(compare(memory, trace, swaps, disturbances))
            if any(each.agrees for each in compared):
                break
    return compared


def disturbances_of(memory: Watched) -> int:
    stats = memory.stats()
    return int(stats["faults"] + stats["unplanned_evictions"] + stats["plan_misses"])


def achieved(events: list[TraceEvent]) -> Rates:
    """The rate of each way while the other was idle, and while it was not.

    A copy has its bytes spread evenly over its time.
    """
    copies = [e for e in events if e.kind in ("swap_out", "swap_in") and e.seconds]
    moved_bytes: Counter[tuple[str, bool]] = Counter()
    busy_seconds: Counter[tuple[str, bool]] = Counter()
    moments = sorted({t for e in copies for t in (e.time_seconds - e.seconds, e.time_seconds)})
    for begin, end in pairwise(moments):
        under_way = [e for e in copies if e.time_seconds - e.seconds <= begin < e.time_seconds]
        kinds = {e.kind for e in under_way}
        for e in under_way:
            moved_bytes[e.kind, len(kinds) > 1] += e.bytes * (end - begin) / e.seconds
        for kind in kinds:
            busy_seconds[kind, len(kinds) > 1] += end - begin

    def rate(kind: str, duplex: bool) -> float:
        ways = [duplex] if busy_seconds[kind, duplex] else [False, True]
        seconds = sum(busy_seconds[kind, way] for way in ways)
        return sum(moved_bytes[kind, way] for way in ways) / seconds if seconds else 1e12

    return Rates(
        rate("swap_out", False),
        rate("swap_in", False),
        rate("swap_out", True),
        rate("swap_in", True),
    )


def compare(memory: Watched, trace: Trace, swaps: Any, disturbances: int) -> Compared:
    begun, ended, noted = memory.engine.last_iteration()
    items = list(noted)
    went = read((begun, ended, items), trace.machine).trace
    assert [op.name for op in went.ops] == [op.name for op in trace.ops]
    ops = tuple(
        replace(op, seconds=real.seconds, gap_seconds=real.gap_seconds)
        for op, real in zip(trace.ops, went.ops, strict=True)
    )
    events = [event for event in memory.trace() if begun <= event.time_seconds <= ended]
    machine = replace(trace.machine, link=achieved(events))
    retimed = replace(trace, ops=ops, tail_seconds=went.tail_seconds, machine=machine)
    return Compared(
        seconds=ended - begun,
        stall_seconds=sum(item[1] for item in items if item[0] == "stall"),
        peak_bytes=max(event.resident_bytes for event in events),
        out_bytes=sum(event.bytes for event in events if event.kind == "swap_out"),
        in_bytes=sum(event.bytes for event in events if event.kind == "swap_in"),
        disturbances=disturbances,
        simulated=simulate(retimed, swaps),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        arch if arch == IN_EVERY_RUN else pytest.param(arch, marks=pytest.mark.nightly)
        for arch in SIZES
    ],
)
def test_an_iteration_goes_as_it_is_simulated(
    arch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 5 % of the time and 1 % of the peak, where nothing else disturbs it."""
    stats = in_core(arch, tmp_path)
    lines, wrong = [], []
    for share in SHARES[arch]:
        budget_bytes = int(stats["peak_live_bytes"] * share)
        if budget_bytes < stats["largest_op_bytes"]:
            continue
        compared = follow(arch, budget_bytes, tmp_path)
        lines.append(f"{arch} at {share:.0%}, {mib(budget_bytes)}:")
        lines.extend(f"  {each}" for each in compared)
        # Where touches that nobody announced change what is resident, no simulation can tell.
        calm = [each for each in compared if not each.disturbances]
        if calm and not any(each.agrees for each in compared):
            wrong.append(share)
        assert compared or arch not in MANY_SHARES or share < 0.5, "no plan was followed"
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert not wrong
