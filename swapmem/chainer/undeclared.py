"""Touches of arrays that no op announced, found in paranoid mode and traced to where they are."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from swapmem.chainer.hooks import OpHook

if TYPE_CHECKING:
    from swapmem.manager import Manager

# Enough for any function's own objects; a function that holds a whole program is cut short.
_MAX_OBJECTS = 20_000
# For each manager: what the faults at these positions in its list turned out to be.
_found: weakref.WeakKeyDictionary[Any, dict[int, str]] = weakref.WeakKeyDictionary()


class Undeclared(NamedTuple):
    """One array that a function touched without an announcement.

    Attributes:
        function: Name of the op, such as "ReLU" or "ReLU backward".
        array: Where the function has it ("function.mask", "in_data[1]"), with dtype and shape.
        bytes: Size of its block.
        touches: How often it was swapped in because of that.
    """

    function: str
    array: str
    bytes: int
    touches: int


def _members(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a value refers to, each with the path to it."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield f"{path}[{key!r}]", member
    elif isinstance(value, (tuple, list, set, frozenset, collections.deque)):
        for index, member in enumerate(value):
            yield f"{path}[{index}]", member
    elif isinstance(value, weakref.ref):
        yield f"{path}()", value()
    elif isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield f"{path}.<{name}>", cell
    elif hasattr(value, "cell_contents"):
        yield path, value.cell_contents
    elif not isinstance(value, type) and hasattr(value, "__dict__"):
        for name, member in vars(value).items():
            yield f"{path}.{name}", member


def _arrays(roots: list[tuple[str, Any]]) -> Iterator[tuple[str, numpy.ndarray]]:
    """All arrays that can be reached, nearest first."""
    queue = collections.deque(roots)
    met: set[int] = set()
    while queue and len(met) < _MAX_OBJECTS:
        path, value = queue.popleft()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, numpy.ndarray):
            if value.size:
                yield path, value
        else:
            queue.extend(_members(path, value))


class ParanoidHook(OpHook):
    """A hook that also finds out which array each unannounced touch was of.

    Args:
        manager: A manager that was made with ``paranoid=True``; it has been entered.
    """

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager)
        self._manager = manager
        self._faults_seen = len(manager.faults())
        self._found = _found.setdefault(manager, {})

    def forward_postprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        """Describe the op's faults and close it (called by Chainer)."""
        self._describe(function, [("in_data", in_data)])
        super().forward_postprocess(function, in_data)

    def backward_postprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        """Describe the op's faults and close it (called by Chainer)."""
        self._describe(function, [("in_data", in_data), ("out_grad", out_grad)])
        super().backward_postprocess(function, in_data, out_grad)

    def _describe(self, function: Any, roots: list[tuple[str, Any]]) -> None:
        faults = self._manager.faults()
        if len(faults) > self._faults_seen:
            where: dict[int, str] = {}
            for path, array in _arrays([*roots, ("function", function)]):
                block = self._manager.block(array)
                if block is not None:
                    where.setdefault(block.id, f"{path}: {array.dtype}{list(array.shape)}")
            for position in range(self._faults_seen, len(faults)):
                if faults[position].block in where:
                    self._found[position] = where[faults[position].block]
            self._faults_seen = len(faults)


def undeclared(memory: Manager) -> list[Undeclared]:
    """Which arrays Chainer's functions touched though nobody had announced them.

    On a GPU each of these would be an access to memory that is not mapped; on the host it only
    costs time. Touches outside every op, by your own code, are not among them.

    Args:
        memory: A manager made with ``paranoid=True``, within its context or after it.

    Returns:
        One entry per function and array, largest first; empty if everything was announced.

    Example:
        >>> with swapmem.Manager(device="host", device_memory="1GiB", paranoid=True) as memory:
        ...     model(x, t).backward()
        >>> swapmem.chainer.undeclared(memory)
        []
    """
    found = _found.get(memory, {})
    counts: collections.Counter[tuple[str, str, int]] = collections.Counter()
    for position, fault in enumerate(memory.faults()):
        if fault.op:
            array = found.get(position, "not reachable from the function")
            counts[fault.op, array, fault.bytes] += 1
    entries = [Undeclared(*key, count) for key, count in counts.items()]
    return sorted(entries, key=lambda entry: (-entry.bytes, entry.function, entry.array))


def undeclared_report(memory: Manager) -> str:
    """Say in words what ``undeclared`` returns.

    Args:
        memory: A manager made with ``paranoid=True``.

    Returns:
        A table, or one line if there is nothing to say; with how many touches came from outside.

    Example:
        >>> print(swapmem.chainer.undeclared_report(memory))
        0 undeclared arrays, 2 touches outside every operation
    """
    entries = undeclared(memory)
    outside = sum(1 for fault in memory.faults() if not fault.op)
    lines = [f"{len(entries)} undeclared arrays, {outside} touches outside every operation"]
    if entries:
        width = max(len(entry.function) for entry in entries)
        lines += [
            f"{entry.function:<{width}}  {entry.bytes:>12,} bytes  {entry.touches:>6} x  "
            f"{entry.array}"
            for entry in entries
        ]
    return "\n".join(lines)
