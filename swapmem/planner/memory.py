"""How much memory a trace takes, with everything in memory and at the least."""

from __future__ import annotations

from swapmem.planner.trace import Trace


def profile(trace: Trace) -> list[int]:
    """The most bytes that are live in each slot, swapped out or not.

    Args:
        trace: one iteration.

    Returns:
        A list of ``2 * len(trace.ops) + 1`` figures in bytes, one for each slot. Within a slot
        allocations and frees count in the order in which they happened.

    Example:
        >>> from swapmem.planner.trace import Block, Change, Machine, Op, Rates, Trace
        >>> op = Op("F", "forward", 1.0, 0.0, touches=(0,))
        >>> blocks = (Block(100, None, None), Block(50, born=1, freed=2))
        >>> changes = (Change(1, 1, True), Change(2, 1, False))
        >>> machine = Machine(120, Rates(1e9, 1e9, 1e9, 1e9))
        >>> profile(Trace("host", (op,), blocks, changes, machine))
        [100, 150, 150]
    """
    live = sum(block.bytes for block in trace.blocks if block.born is None)
    most = [0] * (2 * len(trace.ops) + 1)
    reached = 0
    most[0] = live
    for change in trace.changes:
        while reached < change.slot:
            reached += 1
            most[reached] = live
        size = trace.blocks[change.block].bytes
        live += size if change.allocates else -size
        most[reached] = max(most[reached], live)
    while reached < len(most) - 1:
        reached += 1
        most[reached] = live
    return most


def peak(trace: Trace) -> int:
    """The most bytes that are live at any time: with this budget nothing is ever swapped.

    Args:
        trace: one iteration.

    Returns:
        Bytes; 0 for a trace without blocks.
    """
    return max(profile(trace))


def minimums(trace: Trace) -> list[int]:
    """The smallest budget with which each slot can pass, whatever else is swapped out.

    While an op runs its touches are resident, and so is what it has allocated and not yet freed.
    Blocks that may not be swapped out are resident as long as they live.

    Args:
        trace: one iteration.

    Returns:
        A list of ``2 * len(trace.ops) + 1`` figures in bytes, one for each slot.
    """
    blocks = trace.blocks
    fixed = sum(b.bytes for b in blocks if b.born is None and not b.eligible)
    by_slot: list[list[tuple[int, bool]]] = [[] for _ in range(2 * len(trace.ops) + 1)]
    for change in trace.changes:
        by_slot[change.slot].append((change.block, change.allocates))
    least = []
    for slot, changes in enumerate(by_slot):
        held = set()
        if slot % 2:
            held = {b for b in trace.ops[slot // 2].touches if blocks[b].eligible}
        bytes_held = sum(blocks[b].bytes for b in held)
        most = fixed + bytes_held
        for block, allocates in changes:
            size = blocks[block].bytes
            if not blocks[block].eligible:
                fixed += size if allocates else -size
            elif not allocates:
                bytes_held -= size if block in held else 0
                held.discard(block)
            elif slot % 2:
                held.add(block)
                bytes_held += size
            else:
                most = max(most, fixed + size)
            most = max(most, fixed + bytes_held)
        least.append(most)
    return least


def op_minimum(trace: Trace) -> int:
    """The smallest budget with which every op can run: no plan can do with less.

    Args:
        trace: one iteration.

    Returns:
        Bytes: the largest sum of an op's touches, of what it allocates, and of the live blocks that
        may not be swapped out.
    """
    return max(minimums(trace))
