"""What swapmem raises."""

from typing import Any


class Error(Exception):
    """The base of all errors of swapmem.

    Example:
        >>> import swapmem
        >>> try:
        ...     with swapmem.Manager(device="host", device_memory="1KiB"):
        ...         pass
        ... except swapmem.Error as error:
        ...     print(error)
        a budget of 1024 bytes holds no block; the smallest is 65536 bytes
    """


class OutOfMemory(Error, MemoryError):
    """The device budget cannot hold what has to be resident at the same time.

    Nothing was changed: no array lost, no operation begun.

    Attributes:
        requested_bytes: what was asked for.
        used_bytes: what open operations and pins hold, and what therefore cannot be swapped out.
        budget_bytes: the budget.
        needed_bytes: the smallest budget known to be needed at this point.
        op: the operation, or "" outside every operation.

    Example:
        >>> import numpy as np, swapmem
        >>> try:
        ...     with swapmem.Manager(device="host", device_memory="64MiB"):
        ...         array = np.ones(100 << 20, np.uint8)
        ... except swapmem.OutOfMemory as error:
        ...     print(f"{error.needed_bytes >> 20} MiB are needed, not {error.budget_bytes >> 20}")
        100 MiB are needed, not 64
    """

    def __init__(
        self,
        message: str,
        requested_bytes: int,
        used_bytes: int,
        budget_bytes: int,
        needed_bytes: int,
        op: str,
    ) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes
        self.used_bytes = used_bytes
        self.budget_bytes = budget_bytes
        self.needed_bytes = needed_bytes
        self.op = op

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            str(self),
            self.requested_bytes,
            self.used_bytes,
            self.budget_bytes,
            self.needed_bytes,
            self.op,
        )


class StoreError(Error, OSError):
    """The store could not take or give back bytes; `errno` says why. The array is where it was.

    Example:
        >>> try:  # doctest: +SKIP
        ...     memory.swap_out(array).wait()
        ... except swapmem.StoreError as error:
        ...     if error.errno != errno.ENOSPC:  # else: some room on the disk, and once more
        ...         raise
    """


class DeviceError(Error, OSError):
    """The device refused a mapping; `errno` says why. The array is where it was.

    Example:
        >>> try:  # doctest: +SKIP
        ...     memory.swap_in(array).wait()
        ... except swapmem.DeviceError as error:
        ...     print(error.errno, error)
    """


class InvalidBlock(Error, ValueError):
    """The array has no block, or its block cannot do what was asked.

    Example:
        >>> import numpy as np, swapmem
        >>> with swapmem.Manager(device="host", device_memory="64MiB") as memory:
        ...     array = np.zeros(3)
        ...     try:
        ...         memory.swap_out(array)
        ...     except swapmem.InvalidBlock as error:
        ...         print(error)
        no block at this address: small arrays, and arrays made elsewhere, are ordinary memory
    """
