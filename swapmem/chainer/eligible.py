"""Which blocks only a graph can reach: what may be swapped out where a touch cannot be served.

On a GPU a touch of memory that is not there ends all work on it. So a block may be swapped out for
others only if its next touch is certain to be announced. That is so for an array that nothing but
Chainer's graph refers to: its next use is the backward of a function, and the function carries a
hook that announces it, whichever thread runs it.

That nothing else refers to it is proven by counting. An array is kept alive by references. Those
that the graph holds are known: the data of nodes, retained outputs, and what functions keep among
their attributes. If Python counts not one more, neither for an array nor for what it is a view of
nor for the memory behind it, then no variable, no program and no other library has it. Whatever is
not proven stays where it is.

What this leaves out: a program that takes arrays out of a graph by hand, through
`variable.creator.inputs[0].data` and the like, has to swap them in first.
"""

from __future__ import annotations

import collections
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import chainer

from swapmem.chainer.arrays import array_types, owners, start_of
from swapmem.sizes import format_bytes

if TYPE_CHECKING:
    from swapmem._core import Engine


def _references_to(held: list[Any], index: int) -> int:
    """How many references to an object there are beside the one of the list that has it."""
    return sys.getrefcount(held[index]) - _NONE


_NONE = 0
# What Python counts for an object that only a list holds, while it is asked.
_NONE = _references_to([object()], 0)
# Without the interpreter's lock counts are not exact.
_COUNTS_ARE_EXACT = getattr(sys, "_is_gil_enabled", lambda: True)()
# Reviews are put off the longer the more of them a block has failed.
_MOST_PUT_OFF = 64
_MOST_REASONS = 8

_OUTSIDE = "referred to from outside the graph"
_COMPANY = "another function hook is there, which may look at it"
_UNCOUNTED = "references cannot be counted in this interpreter"


class _Watched:
    """A block and what is known to hold arrays in it."""

    def __init__(self, size_bytes: int, label: str) -> None:
        self.bytes = size_bytes
        self.label = label
        # Nodes and functions, by identity.
        self._holders: dict[int, weakref.ref] = {}
        self.is_offered = False
        self.failures = 0
        self.next_review = 0
        self.reason = _OUTSIDE

    def add_holder(self, holder: Any) -> None:
        known = self._holders.get(id(holder))
        if known is None or known() is not holder:
            self._holders[id(holder)] = weakref.ref(holder)

    def holders(self) -> list[Any]:
        """Those that are alive."""
        alive = [(key, reference()) for key, reference in self._holders.items()]
        for key, holder in alive:
            if holder is None:
                del self._holders[key]
        return [holder for _, holder in alive if holder is not None]


class GraphHook(chainer.FunctionHook):
    """The hook that a function of a graph carries: announces its backward in whichever thread.

    In a thread that takes part in the manager it stands in for that thread's own hook, whose name
    it has; Chainer then calls one of the two.

    Args:
        name: The name of the threads' own hooks.
        make_hook: Makes a hook for a thread that has none.
    """

    def __init__(self, name: str, make_hook: Callable[[], Any]) -> None:
        self.name = name
        self._make_hook = make_hook
        self._own = threading.local()

    def _hook(self) -> Any:
        hook = chainer.get_function_hooks().get(self.name)
        if hook is None:
            hook = getattr(self._own, "hook", None)
            if hook is None:
                hook = self._own.hook = self._make_hook()
        return hook

    def forward_preprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        """Pass it on (called by Chainer)."""
        self._hook().forward_preprocess(function, in_data)

    def forward_postprocess(self, function: Any, in_data: tuple[Any, ...]) -> None:
        """Pass it on (called by Chainer)."""
        self._hook().forward_postprocess(function, in_data)

    def backward_preprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        """Pass it on (called by Chainer)."""
        self._hook().backward_preprocess(function, in_data, out_grad)

    def backward_postprocess(
        self, function: Any, in_data: tuple[Any, ...], out_grad: tuple[Any, ...]
    ) -> None:
        """Pass it on (called by Chainer)."""
        self._hook().backward_postprocess(function, in_data, out_grad)


class Eligible:
    """Offers a manager's engine the blocks that only graphs can reach, and takes them back.

    A block is offered between operations and withdrawn while one uses it.

    Threads: any; the hooks of all threads of a manager share one of these.

    Args:
        engine: The manager's engine.
        current_stream: Returns the handle of the calling thread's current stream.
    """

    def __init__(self, engine: Engine, current_stream: Callable[[], int]) -> None:
        self._lock = threading.RLock()
        self._engine = engine
        self._current_stream = current_stream
        self._minimum_bytes = engine.min_block_bytes
        self._applied: list[weakref.ref] = []
        self._watched: dict[int, _Watched] = {}
        # Blocks that are not offered, and when to look at them again.
        self._pending: set[int] = set()
        self._reviews = 0

    def applied(self, function: Any) -> None:
        """Note that a function was applied; its place in the graph comes with its next review."""
        with self._lock:
            self._applied.append(weakref.ref(function))

    def taken(self, addresses: Iterable[int]) -> None:
        """Withdraw the blocks that an operation uses, which holds them.

        Args:
            addresses: Starts of blocks, such as an op announced.
        """
        with self._lock:
            withdrawn = []
            for address in addresses:
                watched = self._watched.get(address)
                if watched is not None:
                    if watched.is_offered:
                        watched.is_offered = False
                        withdrawn.append(address)
                    watched.failures = 0
                    watched.next_review = 0
                    self._pending.add(address)
            if withdrawn:
                self._engine.withdraw(withdrawn, self._current_stream())

    def review(self, graph_hook: GraphHook, has_company: bool) -> None:
        """Offer what has become the graph's alone since.

        Args:
            graph_hook: The hook that functions new to the graph are given.
            has_company: Whether another function hook is there, which is shown arrays before or
                after the operations that are announced.
        """
        with self._lock:
            self._reviews += 1
            for reference in self._applied:
                function = reference()
                if function is not None and function.inputs is not None:
                    hooks = function.local_function_hooks
                    hooks.setdefault(graph_hook.name, graph_hook)
                    self._watch(function)
            self._applied.clear()
            offered = []
            for address in list(self._pending):
                watched = self._watched[address]
                if watched.next_review > self._reviews:
                    continue
                if has_company or not _COUNTS_ARE_EXACT:
                    watched.reason = _COMPANY if has_company else _UNCOUNTED
                    continue
                state = self._state_of(address, watched)
                if state == "gone":
                    self._pending.discard(address)
                    del self._watched[address]
                elif state == "alone":
                    self._pending.discard(address)
                    watched.is_offered = True
                    offered.append(address)
                else:
                    watched.reason = _OUTSIDE
                    watched.next_review = self._reviews + min(1 << watched.failures, _MOST_PUT_OFF)
                    watched.failures += 1
            if offered:
                self._engine.offer(offered, self._current_stream())

    def forget_gone(self) -> None:
        """Drop what is known of blocks whose graph is gone."""
        with self._lock:
            for address, watched in list(self._watched.items()):
                if not watched.holders():
                    del self._watched[address]
                    self._pending.discard(address)

    def report_lines(self) -> list[str]:
        """Say which blocks of graphs are not offered, and why."""
        with self._lock:
            self.forget_gone()
            kept = [watched for watched in self._watched.values() if not watched.is_offered]
            offered_bytes = sum(w.bytes for w in self._watched.values() if w.is_offered)
            lines = [
                f"graph    {format_bytes(offered_bytes)} may be swapped out; "
                f"{format_bytes(sum(w.bytes for w in kept))} stay"
            ]
            groups: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
            for watched in kept:
                groups[watched.label, watched.reason].append(watched.bytes)
            largest = sorted(groups.items(), key=lambda group: -sum(group[1]))
            for (label, reason), sizes in largest[:_MOST_REASONS]:
                lines.append(
                    f"  stays  {len(sizes)} of {label}, {format_bytes(sum(sizes))}: {reason}"
                )
            return lines

    def _watch(self, function: Any) -> None:
        nodes = [*function.inputs, *(output() for output in function.outputs)]
        for node in nodes:
            # What a parameter has is the model's for good.
            if node is not None and not isinstance(node._variable(), chainer.Parameter):
                for array in _arrays_of_node(node):
                    self._add_holder(array, node, function)
        for array in _arrays_of_function(function):
            self._add_holder(array, function, function)

    def _add_holder(self, array: Any, holder: Any, function: Any) -> None:
        address = start_of(array, self._minimum_bytes)
        if address == 0:
            return
        watched = self._watched.get(address)
        if watched is None or not watched.holders():
            block = self._engine.block(address)
            if block is None:
                return
            watched = self._watched[address] = _Watched(block[2], function.label)
        watched.add_holder(holder)
        # An address that was another array's before may be offered no more.
        if not watched.is_offered:
            self._pending.add(address)

    def _state_of(self, address: int, watched: _Watched) -> str:
        """Whether a block is the graph's "alone", "shared", or "gone"."""
        holders = watched.holders()
        if any(_is_node(holder) and holder._variable() is not None for holder in holders):
            # That variable has the array; most blocks that stay do so for this.
            return "shared"
        counted = self._references(address, holders)
        if not counted:
            return "gone"
        objects = [item for item, _ in counted.values()]
        claims = [claimed for _, claimed in counted.values()]
        counted.clear()
        for index, claimed in enumerate(claims):
            if _references_to(objects, index) != claimed:
                return "shared"
        return "alone"

    def _references(self, address: int, holders: list[Any]) -> dict[int, tuple[Any, int]]:
        """What the arrays in a block are made of, with how often the graph refers to each.

        Returns:
            By identity: the object, and the number of references to it that are known.
        """
        counted: dict[int, tuple[Any, int]] = {}

        def claim(item: Any) -> None:
            known = counted.get(id(item))
            counted[id(item)] = (item, 1 if known is None else known[1] + 1)
            if known is None:
                for owner in owners(item):
                    claim(owner)

        for holder in holders:
            for array in (_arrays_of_node if _is_node(holder) else _arrays_of_function)(holder):
                if start_of(array, self._minimum_bytes) == address:
                    claim(array)
        return counted


def _is_node(holder: Any) -> bool:
    return isinstance(holder, chainer.variable.VariableNode)


def _arrays_of_node(node: Any) -> Iterator[Any]:
    data = node._data
    if isinstance(data, array_types):
        yield data


def _arrays_of_function(function: Any) -> Iterator[Any]:
    """Each reference to an array that a function holds where nobody else can follow it."""
    values = list(vars(function).values())
    for index in range(len(values)):
        if isinstance(values[index], array_types):
            yield values[index]
        # To a container only the attribute may refer.
        elif type(values[index]) in (tuple, list) and _references_to(values, index) == 1:
            yield from (array for array in values[index] if isinstance(array, array_types))
