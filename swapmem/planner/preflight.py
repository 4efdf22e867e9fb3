"""Whether a budget is enough, found out before the second iteration."""

from __future__ import annotations

from swapmem.planner import memory
from swapmem.planner.errors import Infeasible
from swapmem.planner.trace import Trace


def smallest_budget(trace: Trace) -> int:
    """The smallest budget that any plan for a trace can do with.

    Args:
        trace: one iteration.

    Returns:
        Bytes: the most that an op touches and allocates, beside what may not be swapped out.
    """
    return memory.op_minimum(trace)


def check(trace: Trace, budget_bytes: int) -> None:
    """Refuses a budget with which no plan exists.

    Args:
        trace: one iteration.
        budget_bytes: the device's memory that blocks may take.

    Raises:
        Infeasible: names the op that needs most, what has to be resident while it runs, and the
            smallest budget that would do.

    Example:
        >>> preflight.check(trace, budget_bytes=64 << 20)
        Traceback (most recent call last):
        swapmem.planner.errors.Infeasible: op 12, Convolution2DFunction: 90,177,536 bytes ...
    """
    least = memory.minimums(trace)
    slot = max(range(len(least)), key=least.__getitem__)
    if least[slot] <= budget_bytes:
        return
    op = slot // 2
    name = trace.ops[op].name if op < len(trace.ops) else "the iteration's end"
    if slot % 2 == 0 and op < len(trace.ops):
        name = f"before {name}"
    raise Infeasible(name, op, least[slot], budget_bytes, least[slot])
