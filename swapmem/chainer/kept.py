"""What a function node keeps for its backward: found, taken from it, and given back."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import chainer

from swapmem.chainer.arrays import array_types
from swapmem.chainer.draws import drawn_by

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


class _Found(NamedTuple):
    """An array that a function keeps: of which kind, where, and the node that has it too."""

    kind: str
    key: Any
    node: Any
    bytes: int


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
        # What it was made with is not its own to drop.
        self._given = {
            (place, name): id(value)
            for place, owner in enumerate(_owners(function))
            for name, value in vars(owner).items()
        }
        self._function: weakref.ref[Any] = weakref.ref(function)
        self._found: list[_Found] = []
        # Where among the owners, and the name; positions among retained outputs; input indices.
        self._attributes: list[tuple[int, str]] = []
        self._outputs: list[int] = []
        self._inputs: list[int] = []
        # With all that drop and give back what the node has.
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

    def find(self, function: Any, inner: set[int]) -> int:
        """Look for what the function keeps.

        Args:
            function: The function, now applied.
            inner: Identities of all functions of the part of the model.

        Returns:
            Bytes of the largest of it.
        """
        if function.inputs is None:
            # Applied without a graph.
            return 0
        drawn = drawn_by(function)
        self.drawn = {name: vars(function).get(name) for name in drawn}
        for place, owner in enumerate(_owners(function)):
            for name, value in vars(owner).items():
                is_given = self._given.get((place, name)) == id(value)
                if not (is_given or name in drawn or name in _STRUCTURE):
                    self._found.append(_Found("attribute", (place, name), None, _bytes_of(value)))
        for position, index in enumerate(function._output_indexes_to_retain or ()):
            node = function.outputs[index]()
            if node is None or node._variable() is None:
                size = function._retained_output_data[position].nbytes
                self._found.append(_Found("output", position, node, size))
        for index in function._input_indexes_to_retain or ():
            node = function.inputs[index]
            # A variable that is alive has the array anyway: results, above all.
            if id(node.creator_node) in inner and node._variable() is None:
                self._found.append(_Found("input", index, node, node._data.nbytes))
        self._given.clear()
        return max((found.bytes for found in self._found), default=0)

    def settle(self, small_bytes: int, users: dict[int, list[Kept]]) -> None:
        """Decide what of it is worth to be computed again.

        Args:
            small_bytes: What is no larger stays.
            users: Of each node met so far, by its identity: who shares what it has.
        """
        places: dict[str, list[Any]] = {
            "attribute": self._attributes,
            "output": self._outputs,
            "input": self._inputs,
        }
        for found in self._found:
            if found.bytes > small_bytes:
                places[found.kind].append(found.key)
                if found.node is not None:
                    sharers = users.setdefault(id(found.node), [])
                    sharers.append(self)
                    self._nodes.append((weakref.ref(found.node), sharers))
        self._found.clear()

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
