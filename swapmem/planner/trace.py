"""A trace: one training iteration as a value.

Time in an iteration is counted in *slots*: slot ``2 i + 1`` is op ``i`` while it runs, slot ``2 i``
the time before it (after op ``i - 1`` has ended), and slot ``2 n`` what follows the last op.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Op:
    """One forward or backward call of a framework function, or one update of a parameter.

    Attributes:
        name: such as "Convolution2DFunction", "ReLU backward" or "MomentumSGDRule update".
        phase: "forward", "backward", "update" or "other".
        seconds: from its begin to its end without stalls; on a GPU the device's time.
        gap_seconds: from the end of the op before, or the iteration's begin, to this one's begin,
            without stalls.
        touches: indices of the blocks that it announced; they are resident while it runs.
        writes: those of them whose bytes it changed: a copy in the store is then out of date.
        segment: path of the innermost part of the model that it belongs to, if the model names its
            parts.
    """

    name: str
    phase: str
    seconds: float
    gap_seconds: float
    touches: tuple[int, ...]
    writes: tuple[int, ...] = ()
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """One block's life in the iteration.

    Attributes:
        bytes: what it takes of the budget: the array's bytes, rounded up as the engine does.
        born: slot of its allocation; None if it was there when the iteration began.
        freed: slot in which it was freed; None if it outlives the iteration.
        eligible: whether it may be swapped out for others.
        reason: why it may not; empty if it may.
        name: what to call it: the op that made it and which of its arrays it is.
        carried_from: for a block that was there when the iteration began and was made in the one
            before: the index of the block of this trace that was made in the same way. In a steady
            state that one stands here in the next iteration. None for what lives for good.
    """

    bytes: int
    born: int | None
    freed: int | None
    eligible: bool = True
    reason: str = ""
    name: str = ""
    carried_from: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """An allocation or a free.

    Attributes:
        slot: when; changes of one slot stand in the order in which they happened.
        block: index of the block.
        allocates: True for an allocation, False for a free.
    """

    slot: int
    block: int
    allocates: bool


@dataclass(frozen=True)
class Rates:
    """How fast one link copies.

    Attributes:
        out_bytes_per_second: from the device to the store, with nothing the other way.
        in_bytes_per_second: from the store to the device, with nothing the other way.
        duplex_out_bytes_per_second: out, while copies come in.
        duplex_in_bytes_per_second: in, while copies go out.
        latency_seconds: what each copy costs beside its bytes.
        slowdown: factor by which an op takes longer while copies run (they share the processor
            and its memory); 1 where they do not.
    """

    out_bytes_per_second: float
    in_bytes_per_second: float
    duplex_out_bytes_per_second: float
    duplex_in_bytes_per_second: float
    latency_seconds: float = 0.0
    slowdown: float = 1.0


@dataclass(frozen=True)
class Machine:
    """What a plan is made for.

    Attributes:
        budget_bytes: the device's memory that blocks may take.
        link: between device and store.
        store_bytes: how much the store holds before the tier behind it takes over; None for no
            limit.
        behind: the link between the store and the tier behind it; None if there is none.
        workers: how many copies run at a time in one direction.
    """

    budget_bytes: int
    link: Rates
    store_bytes: int | None = None
    behind: Rates | None = None
    workers: int = 1


@dataclass(frozen=True)
class Trace:
    """One iteration.

    Attributes:
        device: "host" or "cuda:N".
        ops: in the order in which they ran.
        blocks: all that lived at any time of it.
        changes: allocations and frees, in the order in which they happened.
        machine: where it was recorded.
        tail_seconds: from the last op's end to the end of the iteration, without stalls.
        batch: what tells iterations of another shape apart: the bytes of each block that the first
            op touches.
    """

    device: str
    ops: tuple[Op, ...]
    blocks: tuple[Block, ...]
    changes: tuple[Change, ...]
    machine: Machine
    tail_seconds: float = 0.0
    batch: tuple[int, ...] = ()
