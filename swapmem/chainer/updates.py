"""Ops around the updates of parameters, by means of the hooks that Chainer's update rules take.

The hook functions keep no state and are found by name: a model or an optimizer that is copied or
pickled meanwhile takes nothing of swapmem along but these names.
"""

from __future__ import annotations

import weakref
from typing import Any

import chainer

from swapmem.chainer.arrays import add_blocks

# The private method that calls an update rule's hooks.
UPDATE_CODE = chainer.optimizer.UpdateRule._UpdateRule__update.__code__
# How many updates ahead of the current one to fetch; they run fast, one after the other.
_UPDATES_AHEAD = 4


def _announcers() -> list[Any]:
    hooks = chainer.get_function_hooks().values()
    return [hook for hook in hooks if hasattr(hook, "begin_update")]


def _begin(rule: Any, parameter: Any) -> None:
    for announcer in _announcers():
        announcer.begin_update(rule, parameter)


def _end(rule: Any, parameter: Any) -> None:
    for announcer in _announcers():
        announcer.end_update(rule)


_HOOKS = {"swapmem.begin": (_begin, "pre"), "swapmem.end": (_end, "post")}


def add_update(rule: Any, parameter: Any, minimum_bytes: int, found: dict[int, int]) -> None:
    """Note what an update touches: the parameter, its gradient and the optimizer's state for it.

    Args:
        rule: The chainer.UpdateRule of the parameter.
        parameter: The chainer.Parameter.
        minimum_bytes: Arrays that own less are no blocks and are left out.
        found: Gets start addresses as keys and sizes in bytes as values.
    """
    state = rule.state or {}
    add_blocks([parameter.raw_array, parameter._grad, *state.values()], minimum_bytes, found)


class Updates:
    """The update rules that call a hook before and after each update, in the order they ran."""

    def __init__(self) -> None:
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()
        self._followers: weakref.WeakKeyDictionary[Any, tuple[weakref.ref, weakref.ref]] = (
            weakref.WeakKeyDictionary()
        )
        self._latest: weakref.ref | None = None

    def watch_inputs(self, function: Any) -> None:
        """Have a function's parameters' updates announced to the hooks of whoever makes them.

        Args:
            function: A chainer.FunctionNode of which the backward is about to run.
        """
        for node in function.inputs:
            rule = getattr(node.get_variable_or_none(), "update_rule", None)
            if rule is not None and rule not in self._watched:
                self._watched.add(rule)
                for name, (hook, timing) in _HOOKS.items():
                    if name not in _names(rule):
                        rule.add_hook(hook, name, timing)

    def unwatch_all(self) -> None:
        """Take the hooks away again."""
        for rule in self._watched:
            for name in _HOOKS.keys() & _names(rule):
                rule.remove_hook(name)
        self._watched.clear()

    def following(self, rule: Any, parameter: Any) -> list[tuple[Any, Any]]:
        """Note that a rule runs now, and say which ran after it last time.

        Args:
            rule: The chainer.UpdateRule that runs.
            parameter: Its chainer.Parameter.

        Returns:
            The next few rules, each with its parameter.
        """
        latest = self._latest() if self._latest is not None else None
        if latest is not None:
            self._followers[latest] = (weakref.ref(rule), weakref.ref(parameter))
        self._latest = weakref.ref(rule)
        following: list[tuple[Any, Any]] = []
        current = rule
        while len(following) < _UPDATES_AHEAD and current in self._followers:
            references = self._followers[current]
            current, next_parameter = references[0](), references[1]()
            if current is None or next_parameter is None:
                break
            following.append((current, next_parameter))
        return following


def _names(rule: Any) -> set[str]:
    return {*rule._hookable._pre_update_hooks, *rule._hookable._post_update_hooks}
