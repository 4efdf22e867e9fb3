"""A plan in the terms of the engine (csrc/core/plan.h)."""

from __future__ import annotations

from swapmem.planner.plan import Plan
from swapmem.planner.record import Recorded
from swapmem.planner.trace import Trace

# (capacity, address, id, carried_from, slot, ordinal); -1 for none
EngineBlock = tuple[int, int, int, int, int, int]
# (op, blocks to fetch at its begin, blocks to leave at its end, bytes it needs)
EngineStep = tuple[str, list[int], list[int], int]


def instructions(
    recorded: Recorded, plan: Plan
) -> tuple[list[EngineBlock], list[int], list[EngineStep]]:
    """Says which blocks leave and come back at which op, for ``Engine.set_plan``.

    Args:
        recorded: the iteration that was planned.
        plan: made from its trace.

    Returns:
        The blocks that the plan moves, those of them that leave at the iteration's begin, and a
        step for each op.

    Example:
        >>> engine.set_plan(*instructions(recorded, make_plan(recorded.trace)))  # doctest: +SKIP
    """
    trace = recorded.trace
    count = len(trace.ops)
    carried: dict[int, int] = {
        block.carried_from: index
        for index, block in enumerate(trace.blocks)
        if block.carried_from is not None
    }
    wanted: dict[int, None] = {}
    for swap in plan.swaps:
        wanted[swap.block] = None
        source = trace.blocks[swap.block].carried_from
        if source is not None:
            wanted[source] = None
    wanted.update(dict.fromkeys(_out_at_begin(plan, count, carried)))
    number = {block: position for position, block in enumerate(wanted)}

    blocks = []
    for index in wanted:
        block = trace.blocks[index]
        address, identity = recorded.identities[index]
        birth = recorded.births[index]
        source = block.carried_from
        blocks.append(
            (
                block.bytes,
                address,
                identity,
                -1 if source is None else number[source],
                -1 if birth is None else birth.slot,
                0 if birth is None else birth.ordinal,
            )
        )

    # What is to be out when the iteration begins is, unless the one before had another plan.
    at_begin = [number[block] for block in _out_at_begin(plan, count, carried)]
    fetch: list[list[int]] = [[] for _ in range(count)]
    leave: list[list[int]] = [[] for _ in range(count)]
    for swap in plan.swaps:
        leaving = at_begin if swap.out_after < 0 else leave[swap.out_after]
        leaving.append(number[swap.block])
    for swap in sorted(plan.swaps, key=lambda s: (s.needed_by is None, s.needed_by)):
        if swap.fetch_at is None:
            continue
        # One iteration later the block may stand at another place of the trace.
        later = swap.fetch_at >= count
        fetched = carried.get(swap.block, swap.block) if later else swap.block
        fetch[swap.fetch_at % count].append(number[fetched])
    steps = [
        (op.name, fetch[index], leave[index], need_bytes)
        for index, (op, need_bytes) in enumerate(zip(trace.ops, needs(trace), strict=True))
    ]
    return blocks, at_begin, steps


def _out_at_begin(plan: Plan, count: int, carried: dict[int, int]) -> list[int]:
    """The blocks that leave in one iteration and are out when the next one begins."""
    return [
        carried.get(swap.block, swap.block)
        for swap in plan.swaps
        if (swap.fetch_at is None and swap.block in carried)
        or (swap.fetch_at is not None and swap.fetch_at >= count)
    ]


def needs(trace: Trace) -> list[int]:
    """The most that each op, and what follows up to the next, allocates beyond what it frees.

    Args:
        trace: one iteration.

    Returns:
        Bytes, for each op.

    Example:
        >>> needs(trace)[0]  # doctest: +SKIP
        4194304
    """
    needed = [0] * len(trace.ops)
    now = 0
    current = -1
    for change in trace.changes:
        op = (change.slot - 1) // 2
        if op != current:
            current, now = op, 0
        size = trace.blocks[change.block].bytes
        now += size if change.allocates else -size
        if op >= 0:
            needed[op] = max(needed[op], now)
    return needed
