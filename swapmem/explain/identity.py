"""Which block of the trace, and which of its ops, an event of a run is about."""

from __future__ import annotations

from collections.abc import Sequence

from swapmem.planner.trace import Trace
from swapmem.plot import Iteration
from swapmem.records import TraceEvent


class BlockNames:
    """Tells blocks of the trace by the ids that the engine gave them in one iteration.

    Blocks that the iteration makes are told by their order; the blocks that were there before by
    the ids that the run file holds.

    Args:
        trace: the iteration that was planned; None if there is none.
        part: the iteration that is looked at.
        block_ids: `Run.block_ids`.
        current: whether block_ids is about this very iteration, not about a later one.
    """

    def __init__(
        self, trace: Trace | None, part: Iteration, block_ids: Sequence[int], current: bool
    ) -> None:
        self._blocks = () if trace is None else trace.blocks
        self._index: dict[int, int] = {}
        self._made: list[int] = []
        self.alike = False
        if trace is None:
            return
        for i, block_id in enumerate(block_ids):
            # An id of a block that this iteration made may have been another block's before.
            if block_id and (current or trace.blocks[i].born is None):
                self._index[block_id] = i
        made = [event for event in part.events if event.kind == "allocate"]
        born = [change.block for change in trace.changes if change.allocates]
        self.alike = len(made) == len(born) and all(
            event.bytes <= trace.blocks[i].bytes for event, i in zip(made, born, strict=True)
        )
        if self.alike:
            self._made = born[::-1]

    def allocated(self, event: TraceEvent) -> None:
        """Notes a new block; call it for each allocation of the iteration, in order."""
        if self._made:
            self._index[event.block] = self._made.pop()
        elif not self.alike and event.block in self._index:
            return
        else:
            self._index.pop(event.block, None)

    def index(self, block_id: int) -> int | None:
        """The block of the trace that has this id now; None if it is none of them."""
        return self._index.get(block_id)

    def name(self, block_id: int) -> str:
        """What to call the block."""
        index = self.index(block_id)
        return f"block {block_id}" if index is None else block_name(self._blocks, index)


def block_name(blocks: Sequence[object], index: int) -> str:
    """What to call a block of the trace: its name, or its number where it has none.

    Args:
        blocks: of the trace.
        index: into them.
    """
    name = getattr(blocks[index], "name", "")
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
