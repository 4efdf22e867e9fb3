"""Where adapters for frameworks register, so that a Manager can enter them.

An adapter makes the operations of one framework known to a manager's engine. It registers a factory
when it is imported; the manager asks for one context per adapter in every thread that takes part.
An adapter for arrays registers how to find the memory behind one.
This module knows no framework, and no framework is imported for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from swapmem.errors import InvalidBlock

if TYPE_CHECKING:
    from swapmem.manager import Manager

Factory = Callable[["Manager"], AbstractContextManager[Any]]

_factories: list[Factory] = []
_addresses: dict[type, Callable[[Any], int]] = {}


def register(factory: Factory) -> None:
    """Have every manager that is entered from now on enter ``factory(manager)`` too.

    Args:
        factory: Called once for each thread that a manager takes part in, in that thread; the
            context it returns is entered at once and left when the thread leaves the manager.
            Registering the same factory again changes nothing.

    Example:
        >>> import contextlib
        >>> from swapmem import adapters
        >>> adapters.register(lambda manager: contextlib.nullcontext())
    """
    if factory not in _factories:
        _factories.append(factory)


def contexts(manager: Manager) -> list[AbstractContextManager[Any]]:
    """Make the contexts that this thread has to enter for ``manager``.

    Args:
        manager: The manager that the calling thread starts to take part in.

    Returns:
        One new context per registered adapter, in the order of registration.

    Example:
        >>> with contextlib.ExitStack() as stack:
        ...     for context in adapters.contexts(manager):
        ...         stack.enter_context(context)
    """
    return [factory(manager) for factory in _factories]


def register_arrays(kind: type, address: Callable[[Any], int]) -> None:
    """Let managers find the blocks of one kind of array.

    Args:
        kind: The type; subclasses are included.
        address: Takes an array or view and returns an address inside the block it lives in, or 0
            if it lives in none.

    Example:
        >>> import numpy as np
        >>> register_arrays(np.ndarray, lambda array: array.ctypes.data)
    """
    _addresses[kind] = address


def address_of(array: Any) -> int:
    """An address inside the block of an array or view; 0 if its adapter knows it has none.

    Raises:
        InvalidBlock: if no adapter knows the type.
    """
    for kind, address in _addresses.items():
        if isinstance(array, kind):
            return address(array)
    kinds = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in _addresses)
    raise InvalidBlock(
        f"not an array of a known kind ({kinds}): {type(array).__module__}.{type(array).__name__}"
    )
