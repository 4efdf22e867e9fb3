"""Where the fake CUDA driver is, for tests that run programs on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
# Programs find what this process finds, installed or not.
PYTHONPATH = os.pathsep.join([str(_ROOT), str(_ROOT / "tests"), *sys.path])


def library() -> Path:
    """The fake driver, as ``make test-cpp`` builds it; skips the test where nobody did."""
    named = os.environ.get("SWAPMEM_FAKE_CUDA")
    path = Path(named) if named else _ROOT / "build/cpp/tests/cpp/libswapmem_fake_cuda.so"
    if not path.exists():
        pytest.skip(f"{path} is not built: make test-cpp, or name it in SWAPMEM_FAKE_CUDA")
    return path


def beside(name: str) -> Path:
    """What ``make test-cpp`` builds beside the fake driver; skips the test where nobody did."""
    path = library().with_name(name)
    if not path.exists():
        pytest.skip(f"{path} is not built: make test-cpp")
    return path


def run_on_fake_driver(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs this Python on the fake driver, which ends it with 97 if it saw anything wrong."""
    environment = {**os.environ, "SWAPMEM_CUDA_DRIVER": str(library())}
    environment["PYTHONPATH"] = PYTHONPATH
    return run_python(*arguments, cwd=cwd, environment=environment)


def run_on_gpu(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs this Python on the driver of this machine; skips the test where there is none."""
    environment = {**os.environ}
    environment.pop("SWAPMEM_CUDA_DRIVER", None)
    look = "import ctypes; ctypes.CDLL('libcuda.so.1')"
    if run_python("-c", look, cwd=cwd, environment=environment).returncode != 0:
        pytest.skip("no CUDA driver here")
    environment["PYTHONPATH"] = PYTHONPATH
    return run_python(*arguments, cwd=cwd, environment=environment)


def run_python(
    *arguments: str, cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
    )
