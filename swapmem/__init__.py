"""Arrays larger than memory: swapped out and in behind addresses that never change.

Example:
    >>> import numpy as np, swapmem
    >>> with swapmem.Manager(device="host", device_memory="64MiB") as memory:
    ...     arrays = [np.full(4 << 20, i, np.float32) for i in range(8)]  # 8 x 16 MiB
    ...     total = sum(float(a[0]) for a in arrays)
    >>> total
    28.0
"""

from swapmem.errors import DeviceError, Error, InvalidBlock, OutOfMemory, StoreError
from swapmem.manager import Manager
from swapmem.records import BlockInfo, Fault, TraceEvent

__version__ = "0.1.0"

__all__ = [
    "BlockInfo",
    "DeviceError",
    "Error",
    "Fault",
    "InvalidBlock",
    "Manager",
    "OutOfMemory",
    "StoreError",
    "TraceEvent",
]
