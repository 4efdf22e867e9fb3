"""Paths of segments that nest."""

from __future__ import annotations

import random

import pytest

from swapmem.planner.paths import common, outermost, prefixes, runs


def test_a_path_leads_through_all_that_is_around():
    assert prefixes("a/b.0/c") == ["a", "a/b.0", "a/b.0/c"]
    assert prefixes("a") == ["a"]
    assert prefixes(None) == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/b/c", "a/b/d"], "a/b"),
        (["a/b", "a/b/d"], "a/b"),
        (["a/b"], "a/b"),
        (["a/b", "a/bc"], "a"),
        (["a", "b"], None),
    ],
)
def test_what_is_common_is_the_innermost_that_all_are_in(paths, expected):
    assert common(paths) == common(paths[::-1]) == expected


def test_what_is_within_another_is_not_outermost():
    assert outermost({"a/b", "a", "a/b/c", "ab/c", "d/e", "d/f"}) == {"a", "ab/c", "d/e", "d/f"}


def test_runs_are_those_of_every_level():
    paths = ["a", "a/b", "a/b", "a", "a/b", None, "a/b", "c/d", "c/d"]
    assert runs(paths) == [
        ("a", 0, 4),
        ("a/b", 1, 2),
        ("a/b", 4, 4),
        ("a", 6, 6),
        ("a/b", 6, 6),
        ("c", 7, 8),
        ("c/d", 7, 8),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_each_op_is_in_one_run_of_each_segment_that_it_is_in(seed):
    print("seed", seed)
    pick = random.Random(seed)
    paths = [pick.choice([None, "a", "a/b", "a/b/c", "a/d", "e/b"]) for _ in range(60)]
    covered = [(name, i) for name, first, last in runs(paths) for i in range(first, last + 1)]
    expected = [(name, i) for i, path in enumerate(paths) for name in prefixes(path)]
    assert sorted(covered) == sorted(expected)
