"""What the hooks ask an engine, of a real one."""

from __future__ import annotations

import numpy
import pytest
from chainer_fakes import address

import swapmem
from swapmem.chainer.arrays import add_attributes, add_blocks

MINIMUM_BYTES = 1 << 16


@pytest.fixture
def memory():
    with swapmem.Manager(device="host", device_memory="16MiB", plan="none") as manager:
        yield manager


def test_a_begun_op_tells_how_many_were_open(memory):
    depths = [memory.engine.begin_op("op", []) for _ in range(3)]
    memory.engine.abort_ops(0)
    assert depths == [0, 1, 2]


def test_there_is_nothing_to_fetch_until_something_was_swapped_out(memory):
    array = numpy.zeros(MINIMUM_BYTES, numpy.uint8)
    before = memory.engine.may_prefetch()
    memory.swap_out(array).wait()
    assert (before, memory.engine.may_prefetch()) == (False, True)


def test_an_engine_owns_the_arrays_that_were_made_with_it(memory):
    ours, small = numpy.zeros(MINIMUM_BYTES, numpy.uint8), numpy.zeros(8, numpy.uint8)
    assert memory.engine.owned([address(small), address(ours)]) == [address(ours)]


@pytest.mark.parametrize(
    ("view", "is_found"),
    [
        (lambda a: a, True),
        (lambda a: a[::-2], True),
        (lambda a: a[5:6].reshape(1, 1), True),
        (lambda a: numpy.broadcast_to(a[:1], (7, 7)), True),
        (lambda a: a.view(numpy.recarray), True),
        (lambda a: numpy.asarray(memoryview(a)[8:]), True),
        (lambda a: numpy.asarray(memoryview(a)[:0]), False),
        (lambda a: a[:8].copy(), False),
        (lambda a: a.tolist(), False),
        (lambda a: None, False),
    ],
)
def test_a_view_stands_for_the_array_that_it_looks_into(view, is_found):
    array = numpy.zeros(MINIMUM_BYTES, numpy.uint8)
    seen = view(array)
    found = {}
    add_blocks([seen], MINIMUM_BYTES, found)
    assert list(found) == ([address(seen)] if is_found else [])


def test_an_attribute_is_found_whatever_was_in_it_before():
    class Function:
        kept = None

    array = numpy.zeros(MINIMUM_BYTES, numpy.uint8)
    for value in (None, 3, "x", array, [array], {"a": (array,)}, None):
        function, found = Function(), {}
        function.kept = value
        add_attributes(function, MINIMUM_BYTES, found)
        assert bool(found) == (value is not None and not isinstance(value, (int, str)))
