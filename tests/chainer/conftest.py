"""Chainer with what it needs on today's NumPy, before any test module imports it."""

import pytest
from chainer_fakes import FakeManager

import swapmem.chainer  # noqa: F401 - Chainer cannot be imported without it


@pytest.fixture
def manager():
    """What the hook needs of a manager, with an engine that only records."""
    return FakeManager()


@pytest.fixture
def engine(manager):
    return manager.engine
