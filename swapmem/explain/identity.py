"""Which block of the trace, and which of its ops, an event of a run is about."""

from __future__ import annotations

from collections.abc import Sequence

from swapmem.planner.trace import Block, Trace
from swapmem.plot import Iteration
from swapmem.records import TraceEvent


class BlockNames:
    """Tells blocks of the trace by the ids that the engine gave them in one iteration.

    Blocks that the iteration makes are told by their order; those that the one before made and left
    by their order there; what lives for good by the ids that the run file holds.

    Args:
        trace: the iteration that was planned; None if there is none.
        part: the iteration that is looked at.
        before: the one before it; None if that is not known.
        block_ids: `Run.block_ids`.
    """

    def __init__(
        self,
        trace: Trace | None,
        part: Iteration,
        before: Iteration | None,
        block_ids: Sequence[int],
    ) -> None:
        self._blocks = () if trace is None else trace.blocks
        self._index: dict[int, int] = {}
        self._made: list[int] = []
        if trace is None:
            return
        for i, block_id in enumerate(block_ids):
            block = trace.blocks[i]
            if block_id and block.born is None and block.carried_from is None:
                self._index[block_id] = i
        ids = {} if before is None else {i: event.block for i, event in _made(trace, before)}
        for i, block in enumerate(trace.blocks):
            if block.carried_from in ids:
                self._index[ids[block.carried_from]] = i
        self._made = [i for i, _ in _made(trace, part)][::-1]

    def allocated(self, event: TraceEvent) -> None:
        """Notes a new block; call it for each allocation of the iteration, in order."""
        # Until something is swapped, the id of a freed block may be used again.
        self._index.pop(event.block, None)
        if self._made:
            self._index[event.block] = self._made.pop()

    def index(self, block_id: int) -> int | None:
        """The block of the trace that has this id now; None if it is none of them."""
        return self._index.get(block_id)

    def name(self, block_id: int) -> str:
        """What to call the block."""
        index = self.index(block_id)
        return f"block {block_id}" if index is None else block_name(self._blocks, index)


def _made(trace: Trace, part: Iteration) -> list[tuple[int, TraceEvent]]:
    """The allocations of an iteration, each with its block; none if it ran unlike the trace."""
    events = [event for event in part.events if event.kind == "allocate"]
    blocks = [change.block for change in trace.changes if change.allocates]
    made = list(zip(blocks, events, strict=False))
    alike = len(events) == len(blocks) and all(
        event.bytes <= trace.blocks[i].bytes for i, event in made
    )
    return made if alike else []


def block_name(blocks: Sequence[Block], index: int) -> str:
    """What to call a block of the trace: its name, or its number where it has none.

    Args:
        blocks: of the trace.
        index: into them.
    """
    name = blocks[index].name
    return f"{name} (block {index})" if name else f"block {index}"


def op_indices(trace: Trace | None, names: Sequence[str]) -> list[int | None]:
    """Tells ops of the trace by their order.

    Args:
        trace: the iteration that was planned; None if there is none.
        names: of the ops that ran, in order; of nested ops the outermost.

    Returns:
        For each of them which op of the trace it is. From the first on that differs, None.
    """
    expected = () if trace is None else trace.ops
    indices: list[int | None] = [None] * len(names)
    for i, (name, op) in enumerate(zip(names, expected, strict=False)):
        if name != op.name:
            break
        indices[i] = i
    return indices
