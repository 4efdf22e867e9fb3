"""The memory limit that control groups set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Version 1 writes the largest page multiple for "no limit".
_NO_LIMIT_BYTES = 1 << 60


class ControlGroup(NamedTuple):
    """The tightest memory limit of the control groups that this process is in.

    Attributes:
        limit_bytes: what the group may take.
        room_bytes: what is left of that; the page cache counts as free.
    """

    limit_bytes: int
    room_bytes: int


def control_group(
    membership: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> ControlGroup | None:
    """Finds the control group that leaves the least room; None where no limit is set.

    Args:
        membership: the file in which Linux lists the groups of the process.
        mount: where the control groups are mounted.
    """
    groups = list(_limits(membership, mount))
    return min(groups, key=lambda group: group.room_bytes, default=None)


def _limits(membership: Path, mount: Path) -> Iterator[ControlGroup]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", ("inactive_file", "active_file"))
            root = mount
        elif "memory" in controllers.split(","):
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                ("total_inactive_file", "total_active_file"),
            )
            root = mount / "memory"
        else:
            continue
        # A limit of any ancestor holds. Inside a container the path may be one of outside: then
        # only the root, which is the container's own group, is found.
        group = root / path.lstrip("/")
        while True:
            limit = _limit(group, *names)
            if limit is not None:
                yield limit
            if group == root or root not in group.parents:
                break
            group = group.parent


def _limit(
    group: Path, limit_file: str, used_file: str, cache_keys: tuple[str, ...]
) -> ControlGroup | None:
    try:
        limit = (group / limit_file).read_text().strip()
        used_bytes = int((group / used_file).read_text())
        stat = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    if limit == "max" or int(limit) >= _NO_LIMIT_BYTES:
        return None
    cached_bytes = sum(int(line.split()[1]) for line in stat if line.split()[0] in cache_keys)
    room_bytes = int(limit) - used_bytes + cached_bytes
    return ControlGroup(int(limit), min(max(room_bytes, 0), int(limit)))
