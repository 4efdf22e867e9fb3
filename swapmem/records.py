"""What a manager tells, as named tuples."""

from typing import NamedTuple


class TraceEvent(NamedTuple):
    """One thing that happened.

    Attributes:
        time_seconds: when it ended, on the clock of `time.monotonic`.
        kind: "allocate", "free", "begin_op", "end_op", "swap_out", "swap_in", "evict", "fault",
            "stall" or "iteration".
        block: the block's id, 0 where none is concerned.
        bytes: of the block, or of all blocks concerned.
        op: the operation, "" outside every operation.
        seconds: how long it took, 0 for an instant.
        resident_bytes: of all arrays that are in memory, right after.
        charged_bytes: what counts against the budget, right after.

    Example:
        >>> import numpy as np, swapmem
        >>> with swapmem.Manager(device="host", device_memory="64MiB") as memory:
        ...     array = np.ones(1 << 20, np.uint8)
        ...     memory.swap_out(array).wait()
        ...     [event.kind for event in memory.trace()]
        ['allocate', 'swap_out', 'evict']
    """

    time_seconds: float
    kind: str
    block: int
    bytes: int
    op: str
    seconds: float
    resident_bytes: int
    charged_bytes: int


class Fault(NamedTuple):
    """A touch of an array that was swapped out and that nobody announced.

    Attributes:
        time_seconds: when it was served, on the clock of `time.monotonic`.
        op: the operation in which the thread was, "" outside every operation.
        block: the block's id.
        bytes: of the array.
        seconds: how long the touch waited.

    Example:
        >>> import numpy as np, swapmem
        >>> with swapmem.Manager(device="host", device_memory="64MiB") as memory:
        ...     array = np.ones(1 << 20, np.uint8)
        ...     memory.swap_out(array).wait()
        ...     one = array[0]
        ...     [fault.bytes for fault in memory.faults()]
        [1048576]
    """

    time_seconds: float
    op: str
    block: int
    bytes: int
    seconds: float


class BlockInfo(NamedTuple):
    """A block as it is now.

    Attributes:
        id: of the allocation. Once something was swapped no id is used twice; before that an array
            that gets the block of one just freed may get its id as well.
        address: of its first byte; fixed.
        bytes: as asked for.
        state: "resident", "cleaning", "clean", "evicting", "out" or "filling".
        held: by an open operation or a pin.
        pinned: by a pin.

    Example:
        >>> import numpy as np, swapmem
        >>> with swapmem.Manager(device="host", device_memory="64MiB") as memory:
        ...     array = np.ones(1 << 20, np.uint8)
        ...     memory.swap_out(array).wait()
        ...     memory.block(array).state
        'out'
    """

    id: int
    address: int
    bytes: int
    state: str
    held: bool
    pinned: bool
