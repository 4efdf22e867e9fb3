"""Programs in an interpreter of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def python_environment(userfaultfd: str = "") -> dict[str, str]:
    """The environment of a child: one BLAS thread; userfaultfd "0" or "" for as the system does."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("SWAPMEM_USERFAULTFD", None)
    if userfaultfd:
        environment["SWAPMEM_USERFAULTFD"] = userfaultfd
    return environment


def run_python_with(
    userfaultfd: str, spill_dir: Path, program: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program with a spill directory as its first argument, beside that directory."""
    return subprocess.run(
        [sys.executable, "-c", program, str(spill_dir), *arguments],
        env=python_environment(userfaultfd),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=spill_dir.parent,
    )


def last_words(process: subprocess.Popen[str], within_seconds: float = 60) -> tuple[str, str]:
    """What a process that is about to end still prints; one that goes on is killed.

    Raises:
        subprocess.TimeoutExpired: It went on.
    """
    try:
        return process.communicate(timeout=within_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
