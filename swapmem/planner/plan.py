"""A plan: for one iteration, what is swapped out after which op and fetched before which op."""

from __future__ import annotations

from dataclasses import dataclass

from swapmem.sizes import format_bytes


@dataclass(frozen=True, slots=True)
class Swap:
    """One block leaves after one use and is back for the next.

    Ops of the next iteration go on counting: op ``k`` of it is ``k + len(trace.ops)``.

    Attributes:
        block: index into the trace's blocks.
        out_after: the op after whose end the copy out starts; -1 for the iteration's begin.
        fetch_at: the op at whose begin the copy in is asked for; ``out_after < fetch_at``.
        needed_by: the op that touches it next; ``fetch_at <= needed_by``. A block that is freed
            without another touch is never fetched: then both are None.
    """

    block: int
    out_after: int
    fetch_at: int | None
    needed_by: int | None


@dataclass(frozen=True)
class Plan:
    """What to do in every iteration that runs like the trace.

    Attributes:
        swaps: ordered by ``out_after``, then by the order in which the copies start.
        recomputed: paths of the segments whose forward is repeated in backward instead of stored.
        reasons: for each block of the trace, in its order, why it is kept, swapped or recomputed.
        seconds: the iteration's time as simulated.
        compute_seconds: the time of all ops and gaps, without any stall.
        bound_seconds: no plan at this budget can be faster: max(compute, bytes that must move /
            rate) in both directions.
        peak_bytes: the largest sum of resident blocks as simulated; <= the budget.
        out_bytes: copied out in an iteration.
        in_bytes: copied in.
    """

    swaps: tuple[Swap, ...]
    recomputed: tuple[str, ...]
    reasons: tuple[str, ...]
    seconds: float
    compute_seconds: float
    bound_seconds: float
    peak_bytes: int
    out_bytes: int
    in_bytes: int

    def summary(self, what: str) -> str:
        """What it moves and takes.

        Args:
            what: was planned, as "an iteration".

        Returns:
            One line.

        Example:
            >>> plan.summary("an iteration")  # doctest: +SKIP
            '3 swaps, 6.0 MiB out and 6.0 MiB in an iteration, 0.5 s foreseen (1.00 of ...)'
        """
        return (
            f"{len(self.swaps)} swaps, {format_bytes(self.out_bytes)} out and "
            f"{format_bytes(self.in_bytes)} in {what}, {self.seconds:.3g} s foreseen "
            f"({self.seconds / self.compute_seconds:.2f} of the ops' own time, "
            f"{self.seconds / self.bound_seconds:.2f} of the bound)"
        )
