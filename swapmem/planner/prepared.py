"""What is worked out once for a trace, whatever machine is planned for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swapmem.planner import memory
from swapmem.planner.intervals import Integers, Intervals, find
from swapmem.planner.trace import Trace

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Prepared:
    """A trace with what bounds, preflight and search all need of it.

    Attributes:
        trace: one iteration.
        idle: where its blocks could leave.
        live: bytes in each slot, swapped out or not.
        times: when each slot begins if nothing stalls, in seconds; the last op's end last.
    """

    trace: Trace
    idle: Intervals
    live: Integers
    times: Reals

    @property
    def compute_seconds(self) -> float:
        """All ops and gaps, to the end of the iteration."""
        return float(self.times[-1]) + self.trace.tail_seconds


def prepare(trace: Trace) -> Prepared:
    """Works it out.

    Args:
        trace: one iteration.

    Returns:
        The trace, prepared.
    """
    live = np.array(memory.profile(trace), np.int64)
    return Prepared(trace, find(trace), live, slot_times(trace))


def slot_times(trace: Trace) -> Reals:
    """The time at which each slot begins if nothing stalls, in seconds; the last op's end last."""
    steps = [part for op in trace.ops for part in (op.gap_seconds, op.seconds)]
    return np.concatenate(([0.0], np.cumsum(steps))) if steps else np.zeros(1)
