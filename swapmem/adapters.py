"""Where adapters for frameworks register, so that a Manager can enter them.

An adapter makes the operations of one framework known to a manager's engine. It registers a factory
when it is imported; the manager asks for one context per adapter in every thread that takes part.
This module knows no framework, and no framework is imported for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swapmem.manager import Manager

Factory = Callable[["Manager"], AbstractContextManager[Any]]

_factories: list[Factory] = []


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
