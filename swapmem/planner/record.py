"""From what the engine recorded of an iteration to a trace.

An engine's record is a list of items in the order in which they happened:
``(kind, seconds, block id, address, bytes, op name, may leave)``, with the kinds of
csrc/core/record.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from swapmem.planner.repeated import turn_of
from swapmem.planner.trace import Block, Change, Machine, Op, Trace

Item = tuple[str, float, int, int, int, str, bool]
Record = tuple[float, float, Iterable[Item]]

_NOT_OFFERED = "the adapter has not proven that its next touch will be announced, or it is pinned"


@dataclass(frozen=True, slots=True)
class Birth:
    """When a block was allocated.

    Attributes:
        slot: of its allocation.
        ordinal: its number among the allocations of the slot.
    """

    slot: int
    ordinal: int


@dataclass(frozen=True)
class Recorded:
    """A trace, and which of the engine's blocks its blocks were.

    Attributes:
        trace: the iteration.
        identities: for each block of the trace its address and id in the engine.
        births: for each block of the trace when it was allocated; None if it was there before.
        stall_seconds: what it waited, on a GPU also where the host went on meanwhile.
    """

    trace: Trace
    identities: tuple[tuple[int, int], ...]
    births: tuple[Birth | None, ...]
    stall_seconds: float = 0.0

    def survivors(self) -> dict[int, Birth]:
        """The blocks that were made in the iteration and outlive it, by their engine's ids."""
        return {
            identity: birth
            for (_, identity), birth, block in zip(
                self.identities, self.births, self.trace.blocks, strict=True
            )
            if birth is not None and block.freed is None
        }


class _Life:
    """What is known of a block while its iteration is read."""

    __slots__ = ("address", "born", "bytes", "freed", "identity", "offered", "op")

    def __init__(self, item: Item, born: Birth | None) -> None:
        _, _, self.identity, self.address, self.bytes, self.op, may_leave = item
        self.born = born
        self.freed: int | None = None
        # On a device that sees no touches a block is offered some time after it was made.
        self.offered = may_leave


class _Running:
    """An op while its items are read."""

    def __init__(self, name: str, begun_seconds: float, gap_seconds: float) -> None:
        self.name = name
        self.begun_seconds = begun_seconds
        self.gap_seconds = max(gap_seconds, 0.0)
        self.stall_seconds = 0.0
        self.touches: dict[int, None] = {}


def read(
    record: Record,
    machine: Machine,
    device: str = "host",
    earlier: dict[int, Birth] | None = None,
    segments: Sequence[str | None] = (),
    sees_writes: bool = True,
) -> Recorded:
    """Makes a trace of what an engine recorded.

    Args:
        record: what ``Engine.last_iteration()`` returned.
        machine: budget and rates.
        device: "host" or "cuda:N".
        earlier: `Recorded.survivors` of the iteration before, if it was of the same kind.
        segments: for each op the part of the model it belongs to; ignored if there are not as many
            as ops.
        sees_writes: whether the device notices that a block was changed. Where it does not, each
            touch makes the copy in the store out of date.

    Returns:
        The trace and the identities of its blocks.

    Raises:
        ValueError: the record is of no complete iteration.

    Example:
        >>> engine.begin_iteration()  # doctest: +SKIP
        >>> trace = read(engine.last_iteration(), machine).trace  # doctest: +SKIP
    """
    begun_seconds, ended_seconds, items = record
    lives: list[_Life] = []
    index: dict[int, int] = {}
    ops: list[Op] = []
    changes: list[Change] = []
    running: _Running | None = None
    faulted: dict[int, None] = {}
    slot = ordinal = 0
    stall_seconds = all_stall_seconds = 0.0
    latest_seconds = begun_seconds
    for item in items:
        kind, seconds, identity, _, _, name, may_leave = item
        if kind == "exists":
            index[identity] = len(lives)
            lives.append(_Life(item, None))
        elif kind == "begin_op":
            if ops and faulted:
                ops[-1] = replace(ops[-1], touches=(*ops[-1].touches, *faulted))
            running = _Running(name, seconds, seconds - latest_seconds - stall_seconds)
            running.touches.update(faulted)
            faulted.clear()
            slot, ordinal, stall_seconds = 2 * len(ops) + 1, 0, 0.0
        elif kind == "allocate":
            index[identity] = len(lives)
            changes.append(Change(slot, len(lives), True))
            lives.append(_Life(item, Birth(slot, ordinal)))
            ordinal += 1
        elif kind == "stall":
            all_stall_seconds += seconds
            if running is not None:
                running.stall_seconds += seconds
            else:
                stall_seconds += seconds
        elif kind == "end_op":
            if running is None:
                raise ValueError("an op ended that did not begin")
            ops.append(_op(running, seconds, sees_writes))
            running, latest_seconds = None, seconds
            slot, ordinal = 2 * len(ops), 0
        elif identity in index:
            life = lives[index[identity]]
            life.offered = life.offered or may_leave
            if kind == "free":
                life.freed = slot
                changes.append(Change(slot, index.pop(identity), False))
            elif kind == "touch" and running is not None:
                running.touches[index[identity]] = None
            elif kind == "fault":
                # Touched between two ops: as if both did, it is there all the time between them.
                if running is not None:
                    running.touches[index[identity]] = None
                else:
                    faulted[index[identity]] = None
    if running is not None or not ops:
        raise ValueError("no complete iteration was recorded")
    if len(segments) == len(ops):
        ops = [replace(op, segment=name) for op, name in zip(ops, segments, strict=True)]
    blocks = _blocks(lives, earlier or {})
    trace = Trace(
        device=device,
        ops=tuple(ops),
        blocks=blocks,
        changes=tuple(changes),
        machine=machine,
        tail_seconds=max(ended_seconds - latest_seconds - stall_seconds, 0.0),
        batch=tuple(blocks[touched].bytes for touched in ops[0].touches),
    )
    return Recorded(
        trace,
        tuple((life.address, life.identity) for life in lives),
        tuple(life.born for life in lives),
        all_stall_seconds,
    )


def as_next(recorded: Recorded) -> Recorded:
    """What the iteration after the first one will be like, as far as that can be foreseen.

    The first one finds neither gradients nor the optimizer's state in place. The state that it
    makes stays for good; the gradients stay until shortly before they are made again.

    Args:
        recorded: the first iteration.

    Returns:
        The same ops with what is there from the begin.

    Example:
        >>> second = as_next(read(engine.last_iteration(), machine))  # doctest: +SKIP
    """
    trace = recorded.trace
    first_backward = turn_of(trace.ops)
    if first_backward == len(trace.ops):
        return recorded
    updated = {block for op in trace.ops if op.phase == "update" for block in op.touches}
    blocks, identities = list(trace.blocks), list(recorded.identities)
    births = list(recorded.births)
    stays: set[int] = set()
    frees = []
    for index, (block, birth) in enumerate(zip(trace.blocks, recorded.births, strict=True)):
        if birth is None or block.freed is not None:
            continue
        phase = _made_in(trace, index, birth)
        if phase == "update" or (phase == "forward" and index in updated):
            stays.add(index)
            blocks[index] = replace(block, born=None)
            births[index] = None
        elif phase == "backward":
            freed = 2 * first_backward
            frees.append(Change(freed, len(blocks), False))
            blocks.append(replace(block, born=None, freed=freed, carried_from=index))
            identities.append(recorded.identities[index])
            births.append(None)
    changes = [change for change in trace.changes if change.block not in stays]
    at = next((i for i, change in enumerate(changes) if change.slot > 2 * first_backward), None)
    changes[at:at] = frees
    return replace(
        recorded,
        trace=replace(trace, blocks=tuple(blocks), changes=tuple(changes)),
        identities=tuple(identities),
        births=tuple(births),
    )


def _made_in(trace: Trace, index: int, birth: Birth) -> str:
    """The phase that a block was made in; a rule makes its state in its update or right before."""
    number = birth.slot // 2
    if birth.slot % 2:
        return trace.ops[number].phase
    follows = trace.ops[number] if number < len(trace.ops) else None
    is_state = follows is not None and follows.phase == "update" and index in follows.touches
    return "update" if is_state else "other"


def phase_of(name: str) -> str:
    """Whether an op is of the "forward" or "backward" pass, or an "update".

    Example:
        >>> phase_of("ReLU backward")
        'backward'
    """
    for phase in ("backward", "update"):
        if name.endswith(f" {phase}"):
            return phase
    return "forward"


def _op(running: _Running, ended_seconds: float, sees_writes: bool) -> Op:
    phase = phase_of(running.name)
    touches = tuple(running.touches)
    # A forward or backward op writes to what it makes; an update changes what it is given.
    changes_all = phase == "update" or not sees_writes
    return Op(
        name=running.name,
        phase=phase,
        seconds=max(ended_seconds - running.begun_seconds - running.stall_seconds, 0.0),
        gap_seconds=running.gap_seconds,
        touches=touches,
        writes=touches if changes_all else (),
    )


def _blocks(lives: list[_Life], earlier: dict[int, Birth]) -> tuple[Block, ...]:
    made: dict[tuple[Birth | None, int], int] = {
        (life.born, life.bytes): number
        for number, life in enumerate(lives)
        if life.born is not None and life.freed is None
    }
    blocks = []
    for life in lives:
        carried = None
        if life.identity in earlier and life.born is None:
            carried = made.get((earlier[life.identity], life.bytes))
        reason = "" if life.offered else _NOT_OFFERED
        blocks.append(
            Block(
                bytes=life.bytes,
                born=None if life.born is None else life.born.slot,
                freed=life.freed,
                eligible=not reason,
                reason=reason,
                name=_name(life),
                carried_from=carried,
            )
        )
    return tuple(blocks)


def _name(life: _Life) -> str:
    number = "" if life.born is None else f" [{life.born.ordinal}]"
    return f"{life.op or 'made outside every op'}{number}"
