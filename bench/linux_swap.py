"""A memory limit as Linux enforces it: a memory cgroup, and a swap file where there is none."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SWAP_BYTES = 8 << 30


class NotPermitted(Exception):
    """This machine does not let us make memory groups or use swap."""


@contextmanager
def limited(limit_bytes: int) -> Iterator[list[str]]:
    """Makes a memory cgroup and, if the system has no swap, a swap file, for as long as it lasts.

    Args:
        limit_bytes: how much memory a process in the group may have resident.

    Yields:
        A command that runs what follows it inside the group.

    Raises:
        NotPermitted: something of this is not allowed here; says what.
    """
    try:
        with _swap(), _group(limit_bytes) as group:
            # The shell moves itself, then becomes the command.
            yield ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$0" "$@"']
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotPermitted(str(error)) from error


@contextmanager
def _group(limit_bytes: int) -> Iterator[Path]:
    name = f"swapmem-bench-{os.getpid()}"
    legacy = Path("/sys/fs/cgroup/memory")
    if legacy.is_dir():
        group, setting = legacy / _own_group("memory") / name, "memory.limit_in_bytes"
    else:
        # A group with processes in it cannot have limited children: this one goes to the top.
        group, setting = Path("/sys/fs/cgroup") / name, "memory.max"
    group.mkdir()
    try:
        (group / setting).write_text(str(limit_bytes))
        yield group
    finally:
        group.rmdir()


def _own_group(controller: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""


@contextmanager
def _swap() -> Iterator[None]:
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        yield
        return
    with tempfile.NamedTemporaryFile(prefix="swapmem-bench-swap-") as file:
        os.posix_fallocate(file.fileno(), 0, SWAP_BYTES)
        subprocess.run(["mkswap", file.name], check=True, capture_output=True)
        subprocess.run(["swapon", file.name], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["swapoff", file.name], check=True)
