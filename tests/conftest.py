"""What the tests of several suites share."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from python_runs import RunPython, run_python_with

import swapmem


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[swapmem.Manager]:
    """An active manager of 8 MiB that is checked for what it leaves behind."""
    spill_dir = tmp_path / "spill"
    spill_dir.mkdir()
    with swapmem.Manager(device_memory="8MiB", spill_dir=spill_dir) as manager:
        yield manager
        manager.engine.check_invariants()
    assert os.listdir(spill_dir) == []


@pytest.fixture(params=["", "0"], ids=["userfaultfd if allowed", "no userfaultfd"])
def run_python(request: pytest.FixtureRequest, tmp_path: Path) -> RunPython:
    """Runs a program in an interpreter of its own, with a spill directory as its first argument.

    Each test runs with and without userfaultfd: the two ways to serve a touch.
    """
    spill_dir = tmp_path / "spill"
    spill_dir.mkdir()

    return functools.partial(run_python_with, request.param, spill_dir)
