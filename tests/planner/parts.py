"""Traces as an engine would record them that makes large arrays of several blocks."""

from __future__ import annotations

import re
from dataclasses import replace

from swapmem.planner.trace import Block, Change, Trace

# Stands in the names of all parts but the first, and so also in those of what is recomputed.
_MARK = ", part "


def in_parts(trace: Trace, part_bytes: int) -> Trace:
    """Divides the blocks of a trace as csrc/core/frames.cpp does.

    Args:
        trace: one iteration, whose blocks are whole arrays.
        part_bytes: larger arrays are several blocks of so many bytes, after one for what is left.

    Returns:
        The same iteration. The parts of an array follow each other.
    """
    parts: list[range] = []
    blocks: list[Block] = []
    for block in trace.blocks:
        further = max(0, (block.bytes - 1) // part_bytes)
        parts.append(range(len(blocks), len(blocks) + further + 1))
        blocks.append(replace(block, bytes=block.bytes - further * part_bytes))
        for number in range(1, further + 1):
            blocks.append(replace(block, bytes=part_bytes, name=f"{block.name}{_MARK}{number}"))
    for whole, block in enumerate(trace.blocks):
        if block.carried_from is not None:
            for part, maker in zip(parts[whole], parts[block.carried_from], strict=True):
                blocks[part] = replace(blocks[part], carried_from=maker)

    def all_of(wholes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(part for whole in wholes for part in parts[whole])

    ops = tuple(
        replace(op, touches=all_of(op.touches), writes=all_of(op.writes)) for op in trace.ops
    )
    changes = tuple(
        Change(change.slot, part, change.allocates)
        for change in trace.changes
        for part in parts[change.block]
    )
    return replace(trace, ops=ops, blocks=tuple(blocks), changes=changes)


def part_of(block: Block) -> int:
    """Which part of its array a block is, from 0."""
    found = re.search(rf"{_MARK}(\d+)", block.name)
    return int(found[1]) if found else 0
