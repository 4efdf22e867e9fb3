"""What the planner raises."""

from __future__ import annotations

from typing import Any

from swapmem.errors import Error, OutOfMemory
from swapmem.sizes import format_bytes


class TraceError(Error, ValueError):
    """A trace cannot be read, or does not agree with itself.

    Attributes:
        path: the file, or "" for a trace that comes from none.
        place: where in it, such as "blocks[3].freed"; "" for the whole of it.
    """

    def __init__(self, message: str, path: str = "", place: str = "") -> None:
        super().__init__(": ".join(part for part in (path, place, message) if part))
        self.message = message
        self.path = path
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.path, self.place)


class PlanError(Error):
    """No plan can be made, or one does not belong to what it is used for."""


class Infeasible(PlanError, OutOfMemory):
    """Something has to be resident at one time that the budget cannot hold: no plan exists.

    Attributes:
        op: name of the op that cannot run, or that comes after what cannot be held.
        index: its place in the trace; ``len(trace.ops)`` for what follows the last op.
        needed_bytes: what has to be resident there.
        budget_bytes: the budget.
        smallest_budget_bytes: with this one a plan exists; None where only one place was looked at.
    """

    def __init__(
        self,
        op: str,
        index: int,
        needed_bytes: int,
        budget_bytes: int,
        smallest_budget_bytes: int | None = None,
    ) -> None:
        helps = needed_bytes if smallest_budget_bytes is None else smallest_budget_bytes
        super().__init__(
            f"op {index}, {op}: {needed_bytes:,} bytes ({format_bytes(needed_bytes)}) have to be "
            f"resident at the same time and the budget is {budget_bytes:,} bytes "
            f"({format_bytes(budget_bytes)}); it takes a budget of {helps:,} bytes "
            f"({format_bytes(helps)}), or a smaller batch or insize",
            needed_bytes,
            needed_bytes,
            budget_bytes,
            helps,
            op,
        )
        self.index = index
        self.smallest_budget_bytes = smallest_budget_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.op,
            self.index,
            self.requested_bytes,
            self.budget_bytes,
            self.smallest_budget_bytes,
        )
