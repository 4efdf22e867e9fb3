"""Versions of what takes part."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator

import swapmem
from swapmem.cli.finding import Finding
from swapmem.cli.results import CUPY_DISTRIBUTIONS, installed

_SECTION = "software"
_CHAINER = "7.8.1"
_OLDEST_LINUX = (5, 7)


def check() -> Iterator[Finding]:
    """Looks at Linux, Python and the packages."""
    yield _linux(sys.platform, platform.release())
    yield Finding(_SECTION, "Python", "ok", platform.python_version())
    yield Finding(_SECTION, "swapmem", "ok", swapmem.__version__)
    yield Finding(_SECTION, "NumPy", "ok", str(installed("numpy")))
    yield _cupy({name: installed(name) for name in CUPY_DISTRIBUTIONS})
    yield _chainer(installed("chainer"))


def _linux(system: str, release: str) -> Finding:
    if system != "linux":
        return Finding(_SECTION, "system", "problem", f"{system}: swapmem runs on Linux alone")
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < _OLDEST_LINUX:
        # A sandbox that imitates Linux may give an old number and know the calls all the same.
        return Finding(
            _SECTION,
            "Linux",
            "note",
            f"{release}: 5.7 is the first that is known to do",
            "run swapmem bench --filter host to see whether it works here",
        )
    return Finding(_SECTION, "Linux", "ok", release)


def _cupy(versions: dict[str, str | None]) -> Finding:
    found = {name: version for name, version in versions.items() if version is not None}
    if not found:
        return Finding(
            _SECTION,
            "CuPy",
            "note",
            "not installed: no arrays on a GPU",
            "pip install 'swapmem[cuda13]' on a machine with one",
        )
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        return Finding(
            _SECTION, "CuPy", "note", f"{text}: they overwrite each other", "uninstall all but one"
        )
    return Finding(_SECTION, "CuPy", "ok", text)


def _chainer(version: str | None) -> Finding:
    if version is None:
        return Finding(
            _SECTION,
            "Chainer",
            "note",
            "not installed: no training with Chainer",
            "pip install --build-constraint build-constraints.txt 'swapmem[chainer]'",
        )
    if version != _CHAINER:
        return Finding(
            _SECTION,
            "Chainer",
            "note",
            f"{version}: swapmem.chainer is made for {_CHAINER}",
            f"pip install chainer=={_CHAINER}",
        )
    return Finding(_SECTION, "Chainer", "ok", version)
