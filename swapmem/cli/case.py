"""What a benchmark case is, and how each is measured.

A case sets swapmem beside something that does the same without it, and measures both in turn, so
that a slow minute hits both. All samples are kept; bytes that are moved are also verified.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import swapmem
from swapmem.cli.pattern import WrongBytes
from swapmem.cli.raw_driver import DriverError
from swapmem.cli.site import Site

LEAST_TURNS = 3
_MOST_TURNS = 200

Unit = Literal["GB/s", "us"]


class Contest(NamedTuple):
    """Two ways to do the same. Each call measures once and returns the figure."""

    ours: Callable[[], float]
    beside: Callable[[], float]


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Attributes:
        key: names it: device, what is done, size of a block; such as "host/out/4MiB".
        description: one line.
        block_bytes: size of a block.
        unit: "GB/s" (more is better) or "us", microseconds for one block (less is better).
        ours: what is measured.
        beside: what it is measured against.
        filter: returns why the case cannot be run here, None if it can.
        run: sets the contest up, and takes it down at the end of its ``with`` block.
    """

    key: str
    description: str
    block_bytes: int
    unit: Unit
    ours: str
    beside: str
    filter: Callable[[Site], str | None]
    run: Callable[[Site], AbstractContextManager[Contest]]

    @property
    def device(self) -> str:
        """The first part of the key, such as "host" or "cuda0"."""
        return self.key.split("/")[0]

    @property
    def action(self) -> str:
        """The second part of the key, such as "out"."""
        return self.key.split("/")[1]


@dataclass
class Outcome:
    """What a case gave.

    Attributes:
        case: which.
        ours: samples, in the case's unit.
        beside: samples; each was taken just before the one of the same index in ours.
        skipped: why it was not run, "" if it was.
        error: what went wrong, "" if nothing did.
    """

    case: Case
    ours: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    skipped: str = ""
    error: str = ""

    @property
    def measured(self) -> bool:
        """Whether there are figures to look at."""
        return bool(self.ours) and not self.error

    @property
    def ratio(self) -> float:
        """Median of ours by median of what it is measured against."""
        return statistics.median(self.ours) / statistics.median(self.beside)

    @property
    def ratio_spread(self) -> tuple[float, float]:
        """The spread of the ratios of two samples of one turn."""
        return spread(np.divide(self.ours, self.beside))


def spread(figures: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Returns between which figures the middle 80 % lie."""
    low, high = np.percentile(figures, [10, 90])
    return float(low), float(high)


def measure(
    case: Case,
    site: Site,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Runs one case.

    A first turn warms up and is not counted. Then turns are taken until the time is over, three at
    least.

    Args:
        case: what to run.
        site: where.
        seconds: how long, about.
        clock: tells seconds; for tests.
    """
    outcome = Outcome(case)
    reason = case.filter(site)
    if reason is not None:
        outcome.skipped = reason
        return outcome
    try:
        with case.run(site) as contest:
            contest.beside()
            contest.ours()
            end = clock() + seconds
            while len(outcome.ours) < LEAST_TURNS or (
                clock() < end and len(outcome.ours) < _MOST_TURNS
            ):
                beside = contest.beside()
                outcome.ours.append(contest.ours())
                outcome.beside.append(beside)
    except (swapmem.Error, DriverError, WrongBytes, OSError, MemoryError) as error:
        outcome.error = str(error) or type(error).__name__
    return outcome
