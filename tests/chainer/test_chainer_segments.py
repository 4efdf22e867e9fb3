"""Segments within segments: their paths, and what of them is recomputed."""

from __future__ import annotations

import threading

import chainer
import numpy
import pytest
from segmented import Runs, images

from swapmem.chainer import segments
from swapmem.chainer.segments import choose, recomputing, segment

F = chainer.functions

# What the functions of `outer` are, and where.
FORWARD = [
    ("outer", "cos"),
    ("outer/inner", "exp"),
    ("outer/inner", "sin"),
    ("outer", "Tanh"),
    ("outer", "sin"),
]


def inner(x):
    return F.sin(F.exp(x))


def outer(x):
    return F.sin(F.tanh(segment("inner", inner, F.cos(x))))


def ran(loss):
    """The functions of `outer` that run in backward."""
    with Runs() as runs:
        loss.backward()
    return [label for label in runs.labels if label in FORWARD]


def loss_with(names):
    x = chainer.Variable(images())
    with recomputing(names):
        return x, F.sum(segment("outer", outer, x))


def in_a_thread(program):
    found = []
    thread = threading.Thread(target=lambda: found.append(program()))
    thread.start()
    thread.join()
    return found[0]


def test_a_segment_within_a_segment_has_the_path_that_leads_to_it():
    with Runs() as runs:
        loss_with(())
    assert runs.labels == [*FORWARD, (None, "Sum")]
    assert segments.current() is None


@pytest.mark.parametrize(
    ("names", "again"),
    [
        ((), []),
        # The last of each makes what nothing needs.
        (("outer",), FORWARD[:-1]),
        (("outer/inner",), FORWARD[1:2]),
        (("outer", "outer/inner"), FORWARD[:-1]),
        (("inner",), []),
    ],
    ids=["none", "outer", "inner", "both", "without its path"],
)
def test_what_runs_again_has_the_paths_it_had_and_what_is_around_wins(names, again):
    expected, loss = loss_with(())
    loss.backward()
    x, loss = loss_with(names)
    assert ran(loss) == again
    assert segments.current() is None
    numpy.testing.assert_array_equal(x.grad, expected.grad)


def test_the_paths_are_the_same_where_backward_runs_elsewhere():
    _, loss = loss_with(("outer",))
    assert in_a_thread(lambda: ran(loss)) == FORWARD[:-1]
    _, loss = loss_with(("outer/inner",))
    assert segment("elsewhere", ran, loss) == FORWARD[1:2]


def test_paths_and_choices_are_those_of_a_thread():
    def program():
        choose({"outer/inner"})
        return segments.current(), segments.chosen()

    found = segment("around", in_a_thread, program)
    assert found == (None, {"outer/inner"})
    assert segments.chosen() == frozenset()


def test_a_segment_that_fails_is_left():
    def fails(x):
        raise ZeroDivisionError

    for names in ((), {"around/fails"}):
        with recomputing(names), pytest.raises(ZeroDivisionError):
            segment("around", lambda x: segment("fails", fails, x), images())
        assert segments.current() is None


def test_a_name_that_looks_like_a_path_is_refused():
    with pytest.raises(ValueError, match="'a/b': \"/\" stands between the names"):
        segment("a/b", F.sin, images())
    assert segments.current() is None
