"""Which blocks a Chainer function touches: from arrays, wherever they are kept, to addresses."""

from __future__ import annotations

import collections
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import chainer
import numpy
from chainer.backends import cuda

from swapmem import _core

# CuPy's; without CuPy a class that has no instances.
DeviceArray: type = cuda.ndarray
array_types: tuple[type, ...] = (numpy.ndarray, DeviceArray)


def add_device_block(array: Any, minimum_bytes: int, found: dict[int, int]) -> None:
    """Note the memory behind a CuPy array, whole.

    Args:
        array: Any CuPy array: a view, reversed, broadcast or empty ones included.
        minimum_bytes: Arrays whose memory is smaller are no blocks and are left out.
        found: Gets the start address as key and the size in bytes as value.
    """
    memory = array.data.mem
    if memory.size >= minimum_bytes:
        found[memory.ptr] = memory.size


def start_of(array: Any, minimum_bytes: int) -> int:
    """The address at which the memory behind an array begins.

    Args:
        array: A NumPy or CuPy array.
        minimum_bytes: What smaller memory there is is no block.

    Returns:
        The address; 0 for what is no block, or belongs to something that is no array.
    """
    if not isinstance(array, numpy.ndarray):
        memory = array.data.mem
        return int(memory.ptr) if memory.size >= minimum_bytes else 0
    root = array
    while isinstance(root.base, numpy.ndarray):
        root = root.base
    if root.base is not None or root.nbytes < minimum_bytes:
        return 0
    address: int = root.__array_interface__["data"][0]
    return address


def owners(item: Any) -> list[Any]:
    """What an array, or a part of one, refers to in order to keep its memory.

    A NumPy view refers to the array it looks into. A CuPy array refers to a pointer, and a view
    also to an array; the pointer refers to the memory.
    """
    if isinstance(item, numpy.ndarray):
        return [] if item.base is None else [item.base]
    if isinstance(item, DeviceArray):
        array: Any = item
        return [array.data] if array.base is None else [array.data, array.base]
    return [item.mem] if hasattr(item, "mem") else []


def _walk_device_array(
    value: Any, minimum_bytes: int, found: dict[int, int], seen: set[int]
) -> None:
    add_device_block(value, minimum_bytes, found)


def _walk_variable(value: Any, minimum_bytes: int, found: dict[int, int], seen: set[int]) -> None:
    _walk((value.raw_array,), minimum_bytes, found, seen)


def _walk_items(value: Any, minimum_bytes: int, found: dict[int, int], seen: set[int]) -> None:
    if id(value) not in seen:
        seen.add(id(value))
        _walk(value, minimum_bytes, found, seen)


def _walk_mapping(value: Any, minimum_bytes: int, found: dict[int, int], seen: set[int]) -> None:
    if id(value) not in seen:
        seen.add(id(value))
        _walk(value.values(), minimum_bytes, found, seen)


def _walk_object(value: Any, minimum_bytes: int, found: dict[int, int], seen: set[int]) -> None:
    if id(value) not in seen:
        seen.add(id(value))
        others = _core.add_attributes(vars(value), _STRUCTURE, _plain, minimum_bytes, found)
        _walk_others(others, minimum_bytes, found, seen)


_Walker = Callable[[Any, int, dict[int, int], set[int]], None]

# Nodes would lead through the whole graph; their data is looked up where it is needed.
_OPAQUE = (
    chainer.FunctionHook,
    chainer.variable.VariableNode,
    numpy.dtype,
    numpy.generic,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    type,
    weakref.ref,
)
_WALKERS: tuple[tuple[type | tuple[type, ...], _Walker | None], ...] = (
    (_OPAQUE, None),
    (DeviceArray, _walk_device_array),
    (chainer.Variable, _walk_variable),
    (dict, _walk_mapping),
    ((tuple, list, set, frozenset, collections.deque), _walk_items),
)
# Attributes of function nodes that hold the graph's structure, in no function an array, and the
# retained outputs, which only a function's own backward needs.
_STRUCTURE = {
    "inputs",
    "outputs",
    "_input_indexes_to_retain",
    "_input_layouts",
    "_output_indexes_to_retain",
    "_output_layouts",
    "_retained_output_data",
}
# Types met so far whose values hold no arrays: most attributes are numbers and such.
_plain: set[type] = {type(None)}


def _walker_of(kind: type) -> _Walker | None:
    """How arrays are found in a value of this type; None where there can be none."""
    for kinds, walker in _WALKERS:
        if issubclass(kind, kinds):
            return walker
    return _walk_object if kind.__dictoffset__ else None


def _walk(values: Iterable[Any], minimum_bytes: int, found: dict[int, int], seen: set[int]) -> None:
    _walk_others(_core.add_arrays(values, _plain, minimum_bytes, found), minimum_bytes, found, seen)


def _walk_others(
    values: list[Any], minimum_bytes: int, found: dict[int, int], seen: set[int]
) -> None:
    for value in values:
        walker = _walker_of(type(value))
        if walker is None:
            _plain.add(type(value))
        else:
            walker(value, minimum_bytes, found, seen)


def add_blocks(arrays: Iterable[Any], minimum_bytes: int, found: dict[int, int]) -> None:
    """Note the memory behind some arrays, whole: a view stands for the array that it looks into.

    Args:
        arrays: NumPy and CuPy arrays, reversed, broadcast and empty ones included; anything else,
            such as None, is passed over.
        minimum_bytes: Arrays that own less are no blocks and are left out.
        found: Gets start addresses as keys and sizes in bytes as values.

    Example:
        >>> found = {}
        >>> a = numpy.zeros(65536, numpy.uint8)
        >>> add_blocks([None, a, a[::-1][1:]], 65536, found)
        >>> found == {a.ctypes.data: a.nbytes}
        True
    """
    for other in _core.add_arrays(arrays, _plain, minimum_bytes, found):
        if isinstance(other, DeviceArray):
            add_device_block(other, minimum_bytes, found)


def add_attributes(function: Any, minimum_bytes: int, found: dict[int, int]) -> None:
    """Note the memory behind all arrays that a function node keeps as attributes.

    Looks into tuples, lists, sets, dictionaries, variables and attributes of objects, however
    deeply nested; not into the nodes of a graph.

    Args:
        function: A chainer.FunctionNode, or an adapter of an old-style chainer.Function.
        minimum_bytes: Arrays that own less are no blocks and are left out.
        found: Gets start addresses as keys and sizes in bytes as values.
    """
    others = _core.add_attributes(vars(function), _STRUCTURE, _plain, minimum_bytes, found)
    if others:
        _walk_others(others, minimum_bytes, found, set())


def add_backward_blocks(function: Any, minimum_bytes: int, found: dict[int, int]) -> None:
    """Note what a function node keeps for its backward.

    These are the inputs and outputs that it retained and all arrays among its attributes. Inputs
    whose data only another function retained are not needed, though Chainer shows them to hooks.

    Args:
        function: A chainer.FunctionNode that has been applied.
        minimum_bytes: Arrays that own less are no blocks and are left out.
        found: Gets start addresses as keys and sizes in bytes as values.
    """
    data: list[Any] = []
    indexes = function._input_indexes_to_retain
    if indexes:
        data += [function.inputs[index].data for index in indexes]
    indexes = function._output_indexes_to_retain
    if indexes:
        data += function._retained_output_data
        # get_retained_outputs() prefers a living node's data: a user may have set another array.
        nodes = [function.outputs[index]() for index in indexes]
        data += [node.data for node in nodes if node is not None]
    add_blocks(data, minimum_bytes, found)
    add_attributes(function, minimum_bytes, found)
