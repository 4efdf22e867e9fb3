"""A timeline: one iteration as it is drawn, whether it was measured or simulated.

Times are seconds since the iteration began. What straddles the iteration's begin or end keeps its
own times, below 0 or above `Timeline.seconds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from swapmem.explain import spans

Cause = Literal["copy in late", "copy out late", "no plan", "not announced"]
#: In words, for legends and headings.
CAUSES: dict[Cause, str] = {
    "copy in late": "a copy in came too late",
    "copy out late": "memory was not free in time",
    "no plan": "the plan had nothing for it",
    "not announced": "a touch that nobody announced",
}
PHASES = ("forward", "backward", "update", "other")


@dataclass(frozen=True)
class OpSpan:
    """An op while it ran, its stalls included.

    Attributes:
        index: which op of the trace it is; None if the iteration had left the trace.
        name: of the op.
        phase: one of `PHASES`.
        segment: of the model; "" if it has no name.
        begin_seconds: when it began to wait for what it touches.
        end_seconds: when it ended.
    """

    index: int | None
    name: str
    phase: str
    segment: str
    begin_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Copy:
    """A copy of a block to the store or from it.

    Attributes:
        block: which block of the trace; None if it is none of them.
        name: of the block.
        bytes: that were copied.
        begin_seconds: when its first byte moved.
        end_seconds: when it was complete.
        planned: whether the plan has a swap of this block; None without a plan.
    """

    block: int | None
    name: str
    bytes: int
    begin_seconds: float
    end_seconds: float
    planned: bool | None


@dataclass(frozen=True)
class Stall:
    """Compute waited.

    Attributes:
        op: index of the op in the trace; None if it is none of them.
        op_name: of the op; "" outside every op.
        begin_seconds: when the wait began.
        end_seconds: when it ended.
        block: which block of the trace it waited for; None if that is not known.
        cause: the kind of cause.
        why: a sentence with names and figures.
    """

    op: int | None
    op_name: str
    begin_seconds: float
    end_seconds: float
    block: int | None
    cause: Cause
    why: str

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end_seconds - self.begin_seconds


@dataclass(frozen=True)
class Tier:
    """What one tier holds of the arrays, over time.

    Attributes:
        name: "device", "pinned" or "file", or "store" where there is one only.
        points: (seconds, bytes): from then on it holds so much; the first at 0.
        limit_bytes: how much it may hold; None for no limit.
    """

    name: str
    points: tuple[tuple[float, int], ...]
    limit_bytes: int | None

    @property
    def peak_bytes(self) -> int:
        """The most that it held."""
        return max((size for _, size in self.points), default=0)


@dataclass(frozen=True)
class Timeline:
    """One iteration.

    Attributes:
        source: where it is from.
        seconds: how long it was.
        ops: in order; none overlaps another.
        outs: copies to the store, by their begin.
        ins: copies from the store, by their begin.
        stalls: by their begin.
        tiers: the device first, then the store, the nearest part first.
        charged: (seconds, bytes): what counted against the budget; empty in a simulation, where
            that is what the device holds.
    """

    source: Literal["measured", "simulated"]
    seconds: float
    ops: tuple[OpSpan, ...]
    outs: tuple[Copy, ...]
    ins: tuple[Copy, ...]
    stalls: tuple[Stall, ...]
    tiers: tuple[Tier, ...]
    charged: tuple[tuple[float, int], ...] = ()

    @property
    def stall_seconds(self) -> float:
        """Time in which compute waited."""
        return spans.length(self.open_spans(self.stalls))

    def open_spans(self, things: Iterable[OpSpan | Copy | Stall]) -> list[spans.Span]:
        """When they were open, as far as that lies in the iteration."""
        times = ((thing.begin_seconds, thing.end_seconds) for thing in things)
        return spans.clip(times, 0.0, self.seconds)

    def copied_bytes(self, copies: Iterable[Copy]) -> int:
        """Bytes of the copies that were complete in this iteration."""
        return sum(copy.bytes for copy in copies if 0 < copy.end_seconds <= self.seconds)

    def hidden_share(self, copies: Iterable[Copy]) -> float | None:
        """The share of the time in which a copy was under way in which compute did not wait.

        Returns:
            From 0 to 1; None if nothing was copied.
        """
        busy = self.open_spans(copies)
        seconds = spans.length(busy)
        if seconds <= 0:
            return None
        return 1 - spans.overlap(busy, self.open_spans(self.stalls)) / seconds

    def longest_stalls(self, count: int = 10) -> list[Stall]:
        """The longest stalls, the longest first."""
        return sorted(self.stalls, key=lambda stall: (-stall.seconds, stall.begin_seconds))[:count]


def memory_by_tier(timeline: Timeline) -> tuple[list[float], list[list[int]]]:
    """What each tier holds at the moments at which any of them changes.

    Returns:
        The moments, in order, and for each tier its bytes from each of them on.
    """
    moments = sorted({time for tier in timeline.tiers for time, _ in tier.points})
    layers = []
    for tier in timeline.tiers:
        sizes: list[int] = []
        following = 0
        for moment in moments:
            size = sizes[-1] if sizes else 0
            while following < len(tier.points) and tier.points[following][0] <= moment:
                size = tier.points[following][1]
                following += 1
            sizes.append(size)
        layers.append(sizes)
    return moments, layers
