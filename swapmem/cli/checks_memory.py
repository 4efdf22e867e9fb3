"""RAM, and what Linux allows a process to do with it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

from swapmem.cli.control_group import control_group
from swapmem.cli.finding import Finding
from swapmem.sizes import format_bytes

_SECTION = "memory"
_SYSCTL = Path("/proc/sys/vm")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_NODES = Path("/sys/devices/system/node")
# What Linux starts with. Each array that was swapped in is a mapping of its own.
_USUAL_MAPPINGS = 65530
_LITTLE_BYTES = 1 << 30
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}


def check() -> Iterator[Finding]:
    """Looks at sizes, limits and settings."""
    yield from _sizes()
    yield _lockable(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
    yield _nodes(_NODES)
    yield _mappings(_setting(_SYSCTL / "max_map_count"))
    yield _overcommit(_setting(_SYSCTL / "overcommit_memory"))
    yield _huge_pages(_setting(_HUGE_PAGES))
    yield _user_faults()


def _setting(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _sizes() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    text = f"{format_bytes(memory.total)}, {format_bytes(memory.available)} available"
    if memory.available < _LITTLE_BYTES:
        yield Finding(_SECTION, "RAM", "note", text, "end other programs before large runs")
    else:
        yield Finding(_SECTION, "RAM", "ok", text)
    group = control_group()
    if group is None:
        yield Finding(_SECTION, "control group", "ok", "sets no limit")
    elif group.limit_bytes < memory.total:
        yield Finding(
            _SECTION,
            "control group",
            "note",
            f"allows {format_bytes(group.limit_bytes)}, {format_bytes(group.room_bytes)} left",
            "give a device_memory below that: the default is a share of all RAM",
        )
    else:
        yield Finding(_SECTION, "control group", "ok", "its limit is above the RAM")


def _lockable(limit: int) -> Finding:
    name = "locked memory"
    if limit == resource.RLIM_INFINITY:
        return Finding(_SECTION, name, "ok", "no limit")
    return Finding(
        _SECTION,
        name,
        "ok",
        f"{format_bytes(limit)} by mlock (ulimit -l), which swapmem does not need; "
        "pinning for a GPU is the driver's and has only the available RAM as its limit",
    )


def _nodes(directory: Path) -> Finding:
    try:
        count = sum(
            1 for entry in os.listdir(directory) if entry[:4] == "node" and entry[4:].isdigit()
        )
    except OSError:
        count = 0
    if count > 1:
        return Finding(
            _SECTION,
            "NUMA nodes",
            "note",
            f"{count}: copies across nodes are slower",
            "numactl --cpunodebind=N --membind=N keeps a run on the node of its GPU or disk",
        )
    return Finding(_SECTION, "NUMA nodes", "ok", str(count) if count else "not told; one, then")


def _mappings(text: str | None) -> Finding:
    name = "vm.max_map_count"
    if text is None:
        return Finding(_SECTION, name, "note", "cannot be read")
    if int(text) < _USUAL_MAPPINGS:
        return Finding(
            _SECTION,
            name,
            "note",
            f"{text}: fewer mappings than usual, and arrays that were swapped take one each",
            f"sysctl vm.max_map_count={_USUAL_MAPPINGS}",
        )
    return Finding(_SECTION, name, "ok", text)


def _overcommit(text: str | None) -> Finding:
    name = "overcommit"
    if text is None:
        return Finding(_SECTION, name, "note", "vm.overcommit_memory cannot be read")
    if text == "2":
        return Finding(
            _SECTION,
            name,
            "note",
            "strict (2): arrays count against the commit limit as a whole",
            "sysctl vm.overcommit_memory=0 if making arrays fails",
        )
    return Finding(_SECTION, name, "ok", {"0": "usual (0)", "1": "always (1)"}.get(text, text))


def _huge_pages(text: str | None) -> Finding:
    name = "huge pages"
    if text is None:
        return Finding(
            _SECTION, name, "note", "no transparent huge pages: fresh memory and copies are slower"
        )
    chosen = text.partition("[")[2].partition("]")[0]
    if chosen == "never":
        return Finding(
            _SECTION,
            name,
            "note",
            "transparent huge pages are off: fresh memory and copies are slower",
            f"echo madvise > {_HUGE_PAGES}",
        )
    return Finding(_SECTION, name, "ok", f"transparent, {chosen}")


def _user_faults() -> Finding:
    name = "userfaultfd"
    number = _SYS_USERFAULTFD.get(platform.machine())
    if number is None:
        return Finding(_SECTION, name, "note", f"not tried on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    file = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK)
    if file >= 0:
        os.close(file)
        return Finding(
            _SECTION, name, "ok", "allowed: system calls that read a swapped-out array wait for it"
        )
    code = ctypes.get_errno()
    help_text = "use memory.pinned(array) around them"
    if code == errno.EPERM:
        help_text += ", or sysctl vm.unprivileged_userfaultfd=1"
    return Finding(
        _SECTION,
        name,
        "note",
        f"{os.strerror(code)}: system calls that read a swapped-out array fail with EFAULT",
        help_text,
    )
