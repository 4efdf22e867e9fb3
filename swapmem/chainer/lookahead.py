"""What the rest of a backward pass will touch: read from Chainer's own state, once per pass.

Chainer's backward loops pop functions off a heap ordered by rank. The graph is complete when the
loop starts, so the order of its backward operations, and for each block the last operation that
needs it, are known before the first of them runs. Nobody asks as long as nothing is swapped out, or
while a plan is followed.
"""

from __future__ import annotations

import heapq
import itertools
import weakref
from types import FrameType
from typing import TYPE_CHECKING, Any

import chainer
from chainer import _backprop, function_node

from swapmem.chainer.arrays import add_backward_blocks, add_blocks
from swapmem.chainer.recompute import add_recompute_blocks

if TYPE_CHECKING:
    from swapmem._core import Engine

# Code is known by its identity: to hash it takes microseconds.
BACKWARD_CODES = {
    id(code): code
    for code in (_backprop._backprop_to_all.__code__, function_node._backprop.__code__)
}


def _locals_of(frame: FrameType) -> dict[str, Any]:
    """Copy a frame's local variables."""
    names = frame.f_locals
    copied = dict(names)
    if type(names) is dict:
        # Before Python 3.13 the frame keeps this dictionary, and with it arrays, until it returns.
        names.clear()
    return copied


class Lookahead:
    """The operations of one backward pass, in the order in which they will run.

    Holds addresses and weak references only: nothing lives longer because of it.

    Args:
        frame: The running frame of one of Chainer's two backward loops.
        engine: Says which addresses are blocks of its own; the rest is left out.
    """

    def __init__(self, frame: FrameType, engine: Engine) -> None:
        self._frame_id = id(frame)
        # Only the loop's frame owns its table of gradients: while one lives, so does the other.
        self._table = weakref.ref(_locals_of(frame)["grads"])
        self._engine = engine
        self._minimum_bytes = engine.min_block_bytes
        self._position: dict[int, int] = {}
        self._functions: list[weakref.ref] = []
        self._blocks: list[list[int]] = []
        self._retired: dict[int, list[int]] = {}
        # Bytes that the operations before each one touch for the first time; the total at the end.
        self._bytes_before: list[int] = []
        self._horizon = 0

    def foresee(self, frame: FrameType, function: Any) -> None:
        """Find out what the rest of the pass will do, unless that is known.

        Args:
            frame: The pass's.
            function: The function whose backward is about to run.
        """
        if not self._functions:
            self._foresee(_locals_of(frame), function)

    def _foresee(self, names: dict[str, Any], function: Any) -> None:
        heap = list(names["cand_funcs"] if "cand_funcs" in names else names["candidate_funcs"])
        required = names.get("grad_required")
        met = {id(function), *(id(entry[2]) for entry in heap)}
        ties = itertools.count(1 + max((entry[1] for entry in heap), default=0))
        total_bytes = 0
        known: set[int] = set()
        leaves: list[Any] = []
        current: Any = function
        while True:
            is_target = False
            for node in current.inputs:
                creator = node.creator_node
                if creator is None:
                    leaves.append(node.data)
                if node.requires_grad if required is None else node in required:
                    is_target = True
                    if creator is not None and id(creator) not in met:
                        met.add(id(creator))
                        heapq.heappush(heap, (-creator.rank, next(ties), creator))
            if is_target:
                self._position[id(current)] = len(self._functions)
                self._functions.append(weakref.ref(current))
                self._bytes_before.append(total_bytes)
                found: dict[int, int] = {}
                add_backward_blocks(current, self._minimum_bytes, found)
                add_recompute_blocks(current, self._minimum_bytes, found)
                blocks = self._engine.owned(list(found))
                total_bytes += sum(found[address] for address in blocks if address not in known)
                known.update(blocks)
                self._blocks.append(blocks)
            if not heap:
                break
            current = heapq.heappop(heap)[2]
        self._bytes_before.append(total_bytes)
        # Under double backprop the graph goes on to be used.
        if not chainer.config.enable_backprop:
            self._retire(leaves)

    def _retire(self, leaves: list[Any]) -> None:
        done: dict[int, int] = {}
        add_blocks(leaves, self._minimum_bytes, done)
        for position in reversed(range(len(self._blocks))):
            last = [address for address in self._blocks[position] if address not in done]
            done.update(dict.fromkeys(last, 0))
            self._retired[position] = last

    def is_of(self, frame: FrameType) -> bool:
        """Whether this pass is the one that runs in ``frame``."""
        return self._frame_id == id(frame) and self._table() is not None

    def is_over(self) -> bool:
        """Whether the loop of this pass has returned."""
        return self._table() is None

    def blocks_of(self, function: Any) -> list[int] | None:
        """Addresses of the blocks that the backward of ``function`` needs, without gradients.

        Returns:
            A list that is not to be changed; None for a function that was not foreseen.
        """
        position = self._position.get(id(function))
        return None if position is None else self._blocks[position]

    def retired_by(self, function: Any) -> list[int]:
        """Addresses of blocks that no later operation needs; never leaves'.

        Args:
            function: The function whose backward has just run.
        """
        return self._retired.get(self._position.get(id(function), -1), [])

    def accumulated(self, function: Any) -> dict[int, int]:
        """Blocks of the gradients that the backward of ``function`` will add to."""
        found: dict[int, int] = {}
        table = self._table()
        if table is not None:
            for node in function.inputs:
                if node in table.grads:
                    self._add_gradients(table.grads[node], found)
                elif node.creator_node is None:
                    # The table takes a leaf's gradient from its variable when it first needs it.
                    variable = node.get_variable_or_none()
                    if variable is not None:
                        add_blocks([variable._grad], self._minimum_bytes, found)
        return found

    def _add_gradients(self, gradients: list[Any], found: dict[int, int]) -> None:
        arrays = [gradient.raw_array for gradient in gradients if gradient is not None]
        add_blocks(arrays, self._minimum_bytes, found)

    def upcoming(self, function: Any, window_bytes: int) -> tuple[list[int], int]:
        """What to fetch while the backward of ``function`` runs.

        The gradients that it adds to, those that a branch left for the next operation some time
        ago, and what the next operations need. These are looked at only when less than half of the
        window is fetched.

        Args:
            function: The function whose backward is about to run.
            window_bytes: How many bytes ahead of it to look at most.

        Returns:
            Addresses, those needed first in front, and the position after the last operation
            that they are for, to be given to ``fetched``.
        """
        position = self._position.get(id(function))
        if position is None:
            return [], 0
        wanted = self.accumulated(function)
        self._add_waiting_gradients(position + 1, wanted)
        here = self._bytes_before[position + 1]
        end = max(position + 1, self._horizon)
        if self._bytes_before[end] - here < window_bytes / 2:
            while end < len(self._blocks) and self._bytes_before[end] - here < window_bytes:
                wanted.update(dict.fromkeys(self._blocks[end], 0))
                end += 1
        return list(wanted), end

    def _add_waiting_gradients(self, position: int, found: dict[int, int]) -> None:
        table = self._table()
        function = self._functions[position]() if position < len(self._functions) else None
        if table is not None and function is not None:
            for ref in function.outputs:
                node = ref()
                if node is not None and node in table.grads:
                    self._add_gradients(table.grads[node], found)

    def fetched(self, end: int) -> None:
        """Remember that everything before the position ``end`` is there or coming."""
        self._horizon = max(self._horizon, end)
