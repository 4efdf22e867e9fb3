"""How an iteration went, told by how an engine's counts grew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swapmem.planner import rates
from swapmem.planner.trace import Rates

_SURPRISES: tuple[str, ...] = ("faults", "unplanned_evictions", "plan_misses")


@dataclass(frozen=True)
class Outcome:
    """How one iteration, or a round of them, went.

    Attributes:
        seconds: its time.
        surprises: faults, evictions that were not planned, and ops that were not expected; without
            a plan all copies out.
        rates: what the link reached while ops ran; None if too little was copied to tell.
    """

    seconds: float
    surprises: int
    rates: Rates | None


def outcome_of(
    before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, followed: bool
) -> Outcome:
    """Makes it of two of ``Engine.stats()``.

    Args:
        before: when it began.
        after: when it had ended.
        seconds: from the one to the other.
        followed: whether there was a plan.

    Returns:
        The outcome.
    """
    keys = _SURPRISES if followed else ("swap_out_count",)
    return Outcome(
        seconds=seconds,
        surprises=sum(after[key] - before[key] for key in keys),
        rates=rates.reached(before, after),
    )
