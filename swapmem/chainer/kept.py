"""What a function node keeps for its backward: found, taken from it, and given back."""

from __future__ import annotations

import weakref
from typing import Any

import chainer

from swapmem.chainer.arrays import array_types
from swapmem.chainer.draws import drawn_by
from swapmem.planner.recompute import SMALL_SHARE

# Attributes of a function node that belong to the graph.
_STRUCTURE = frozenset({"inputs", "outputs", "_retained_output_data"})


def _owners(function: Any) -> list[Any]:
    """A function node, and for an old-style function also the function behind it."""
    is_adapter = isinstance(function, chainer.function.FunctionAdapter)
    return [function, function.function] if is_adapter else [function]


def _bytes_of(value: Any) -> int:
    """Bytes of an array or of a tuple or list of arrays; 0 for anything else."""
    if isinstance(value, array_types):
        array: Any = value
        return int(array.nbytes)
    if type(value) not in (tuple, list):
        return 0
    if not all(member is None or isinstance(member, array_types) for member in value):
        return 0
    return sum(member.nbytes for member in value if member is not None)


class Kept:
    """What one function keeps that can be computed again.

    Made before the function runs; what it keeps is found when the part of the model that it belongs
    to has returned.

    Args:
        function: A chainer.FunctionNode that is about to be applied.
        in_data: The arrays to which it is applied.
    """

    def __init__(self, function: Any, in_data: tuple[Any, ...]) -> None:
        self._type = type(_owners(function)[-1])
        self._shapes = tuple((array.shape, array.dtype) for array in in_data)
        self._largest_bytes = max((array.nbytes for array in in_data), default=0)
        # What it was made with is not its own to drop.
        self._given = {
            (place, name): id(value)
            for place, owner in enumerate(_owners(function))
            for name, value in vars(owner).items()
        }
        self._function: weakref.ref[Any] = weakref.ref(function)
        self._attributes: list[tuple[int, str]] = []
        self._outputs: list[int] = []
        # Indices of inputs, and nodes with all that drop and give back what the node has.
        self._inputs: list[int] = []
        self._nodes: list[tuple[weakref.ref[Any], list[Kept]]] = []
        #: What the function drew and has to be given before it runs again, by attribute.
        self.drawn: dict[str, Any] = {}
        self.is_missing = False

    @property
    def description(self) -> str:
        """The function's name, and what it is applied to."""
        arrays = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in self._shapes)
        return f"{self._type.__name__} of {arrays}"

    @property
    def has_to_run(self) -> bool:
        """Whether the function itself makes some of it; else the one before it does."""
        return bool(self._attributes or self._outputs)

    @property
    def is_droppable(self) -> bool:
        """Whether there is anything at all."""
        return self.has_to_run or bool(self._inputs)

    def is_like(self, function: Any, in_data: tuple[Any, ...]) -> bool:
        """Whether another function is about to do the same."""
        return self._type is type(_owners(function)[-1]) and self._shapes == tuple(
            (array.shape, array.dtype) for array in in_data
        )

    def find(self, function: Any, inner: set[int], users: dict[int, list[Kept]]) -> None:
        """Look for what the function keeps.

        Args:
            function: The function, now applied.
            inner: Identities of all functions of the part of the model.
            users: Of each node met so far, by its identity: who shares what it has.
        """
        if function.inputs is None:
            # Applied without a graph.
            return
        drawn = drawn_by(function)
        self.drawn = {name: vars(function).get(name) for name in drawn}
        for place, owner in enumerate(_owners(function)):
            for name, value in vars(owner).items():
                is_given = self._given.get((place, name)) == id(value)
                is_large = _bytes_of(value) * SMALL_SHARE > self._largest_bytes
                if is_large and not (is_given or name in drawn or name in _STRUCTURE):
                    self._attributes.append((place, name))
        for position, index in enumerate(function._output_indexes_to_retain or ()):
            node = function.outputs[index]()
            if node is None or node._variable() is None:
                self._outputs.append(position)
                if node is not None:
                    self._share(node, users)
        for index in function._input_indexes_to_retain or ():
            node = function.inputs[index]
            # A variable that is alive has the array anyway: results, above all.
            if id(node.creator_node) in inner and node._variable() is None:
                self._inputs.append(index)
                self._share(node, users)

    def _share(self, node: Any, users: dict[int, list[Kept]]) -> None:
        sharers = users.setdefault(id(node), [])
        sharers.append(self)
        self._nodes.append((weakref.ref(node), sharers))

    def drop(self) -> None:
        """Take it from the function."""
        function = self._function()
        if function is None or not self.is_droppable:
            return
        self.is_missing = True
        owners = _owners(function)
        for place, name in self._attributes:
            setattr(owners[place], name, None)
        if self._outputs:
            data = list(function._retained_output_data)
            for position in self._outputs:
                data[position] = None
            function._retained_output_data = tuple(data)
        for reference, sharers in self._nodes:
            node = reference()
            if node is not None and all(sharer.is_missing for sharer in sharers):
                # Not by way of `data`, which would forget the shape.
                node._data = None

    def missing_of(self, in_data: tuple[Any, ...]) -> list[Any]:
        """Those of the arrays that a function is applied to that this one lacks."""
        return [in_data[index] for index in self._inputs]

    def give_back(self, again: Any, inputs: list[Any]) -> None:
        """Put into the function what another has computed again.

        Args:
            again: The other function; it has run, unless only inputs are missing.
            inputs: Of the arrays to which that one was applied: what ``missing_of`` returned.
        """
        function = self._function()
        if function is None or function.inputs is None:
            return
        self.is_missing = False
        owners, sources = _owners(function), _owners(again)
        for place, name in self._attributes:
            setattr(owners[place], name, getattr(sources[place], name))
        if self._outputs:
            data = list(function._retained_output_data)
            for position in self._outputs:
                data[position] = again._retained_output_data[position]
                node = function.outputs[function._output_indexes_to_retain[position]]()
                if node is not None and node._data is None:
                    node._data = data[position]
            function._retained_output_data = tuple(data)
        for index, array in zip(self._inputs, inputs, strict=True):
            if function.inputs[index]._data is None:
                function.inputs[index]._data = array
