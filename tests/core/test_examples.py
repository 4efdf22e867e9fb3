"""The examples in the documentation of the Python modules run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "swapmem",
        "swapmem.devices",
        "swapmem.errors",
        "swapmem.manager",
        "swapmem.records",
        "swapmem.sizes",
    ],
)
def test_the_examples_of_a_module_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
