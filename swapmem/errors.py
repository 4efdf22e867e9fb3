"""What swapmem raises."""

from typing import Any


class Error(Exception):
    """The base of all errors of swapmem."""


class OutOfMemory(Error, MemoryError):
    """The device budget cannot hold what has to be resident at the same time.

    Nothing was changed: no array lost, no operation begun.

    Attributes:
        requested_bytes: what was asked for.
        used_bytes: what open operations and pins hold, and what therefore cannot be swapped out.
        budget_bytes: the budget.
        needed_bytes: the smallest budget known to be needed at this point.
        op: the operation, or "" outside every operation.
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
    """The store could not take or give back bytes; `errno` says why. The array is where it was."""


class DeviceError(Error, OSError):
    """The device refused a mapping; `errno` says why. The array is where it was."""


class InvalidBlock(Error, ValueError):
    """The array has no block, or its block cannot do what was asked."""
