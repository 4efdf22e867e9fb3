"""Chainer with what it needs on today's NumPy, before any test module imports it."""

from collections.abc import Iterator

import pytest
import threadpoolctl
from chainer_fakes import FakeManager

import swapmem.chainer  # noqa: F401 - Chainer cannot be imported without it


@pytest.fixture
def manager():
    """What the hook needs of a manager, with an engine that only records."""
    return FakeManager()


@pytest.fixture
def engine(manager):
    return manager.engine


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    """The matrices here are small: BLAS's threads would burn time waiting for each other."""
    with threadpoolctl.threadpool_limits(1):
        yield
