"""A browser and a page for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import swapmem.chainer  # noqa: F401 - Chainer cannot be imported without it
from swapmem.explain.run_file import Run
from tests.explain import made_up_runs
from tests.explain.browser import Browser, find_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium to show the page with: apt install chromium")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def run() -> Run:
    return made_up_runs.resnet_run()
