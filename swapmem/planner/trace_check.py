"""Whether a trace agrees with itself, whoever made it."""

from __future__ import annotations

import math
import re
from typing import NoReturn

from swapmem.planner.errors import TraceError
from swapmem.planner.trace import Machine, Rates, Trace

PHASES = ("forward", "backward", "update", "other")


def check(trace: Trace, path: str = "") -> None:
    """Refuses a trace with which no reader could do anything right.

    Args:
        trace: the trace.
        path: the file that it comes from, for the message.

    Raises:
        TraceError: naming the place and what stands there.

    Example:
        >>> check(load("trace.json")[0])
    """
    _Check(trace, path).all()


class _Check:
    def __init__(self, trace: Trace, path: str) -> None:
        self.trace = trace
        self.path = path
        self.end = 2 * len(trace.ops)  # the last slot

    def refuse(self, place: str, message: str) -> NoReturn:
        raise TraceError(message, self.path, place)

    def all(self) -> None:
        if not re.fullmatch(r"host|cuda:\d+", self.trace.device):
            self.refuse("device", f'{self.trace.device!r} is neither "host" nor "cuda:N"')
        if not self.trace.ops:
            self.refuse("ops", "there is no op")
        self.time("tail_seconds", self.trace.tail_seconds)
        for i, size in enumerate(self.trace.batch):
            if size < 0:
                self.refuse(f"batch[{i}]", f"{size} bytes are less than none")
        self.machine(self.trace.machine)
        self.blocks()
        self.changes()
        self.ops()

    def time(self, place: str, seconds: float) -> None:
        if not (math.isfinite(seconds) and seconds >= 0):
            self.refuse(place, f"{seconds} is no time; it must be 0 or more")

    def index(self, place: str, index: int) -> None:
        count = len(self.trace.blocks)
        if not 0 <= index < count:
            self.refuse(place, f"there is no block {index}; there are {count}, counted from 0")

    def machine(self, machine: Machine) -> None:
        if machine.budget_bytes <= 0:
            self.refuse("machine.budget_bytes", f"{machine.budget_bytes} must be more than 0")
        if machine.store_bytes is not None and machine.store_bytes < 0:
            self.refuse("machine.store_bytes", f"{machine.store_bytes} bytes are less than none")
        if machine.workers < 1:
            self.refuse("machine.workers", f"{machine.workers} must be at least 1")
        self.rates("machine.link", machine.link)
        if machine.behind is not None:
            self.rates("machine.behind", machine.behind)

    def rates(self, place: str, rates: Rates) -> None:
        for name in ("out", "in", "duplex_out", "duplex_in"):
            name += "_bytes_per_second"
            rate = getattr(rates, name)
            if not (math.isfinite(rate) and rate > 0):
                self.refuse(f"{place}.{name}", f"{rate} is no rate; it must be more than 0")
        self.time(f"{place}.latency_seconds", rates.latency_seconds)
        if not (math.isfinite(rates.slowdown) and rates.slowdown >= 1):
            self.refuse(f"{place}.slowdown", f"{rates.slowdown} must be 1 or more")

    def ops(self) -> None:
        for i, op in enumerate(self.trace.ops):
            place = f"ops[{i}]"
            if op.phase not in PHASES:
                self.refuse(f"{place}.phase", f"{op.phase!r} is none of {', '.join(PHASES)}")
            self.time(f"{place}.seconds", op.seconds)
            self.time(f"{place}.gap_seconds", op.gap_seconds)
            for j, index in enumerate(op.touches):
                self.index(f"{place}.touches[{j}]", index)
                block = self.trace.blocks[index]
                if block.born is not None and block.born > 2 * i + 1:
                    self.refuse(
                        f"{place}.touches[{j}]",
                        f"block {index} is touched in slot {2 * i + 1} and born in {block.born}",
                    )
                if block.freed is not None and block.freed < 2 * i + 1:
                    self.refuse(
                        f"{place}.touches[{j}]",
                        f"block {index} is touched in slot {2 * i + 1} and freed in {block.freed}",
                    )
            missing = set(op.writes).difference(op.touches)
            if missing:
                self.refuse(f"{place}.writes", f"block {min(missing)} is not among its touches")

    def blocks(self) -> None:
        for i, block in enumerate(self.trace.blocks):
            place = f"blocks[{i}]"
            if block.bytes < 0:
                self.refuse(f"{place}.bytes", f"{block.bytes} bytes are less than none")
            for name, slot in (("born", block.born), ("freed", block.freed)):
                if slot is not None and not 0 <= slot <= self.end:
                    self.refuse(f"{place}.{name}", f"slot {slot} is not among 0 ... {self.end}")
            if block.born is not None and block.freed is not None and block.freed < block.born:
                self.refuse(
                    f"{place}.freed", f"slot {block.freed} is before its birth in {block.born}"
                )
            if block.carried_from is not None:
                self.carried(f"{place}.carried_from", block.carried_from)

    def carried(self, place: str, origin: int) -> None:
        self.index(place, origin)
        block = self.trace.blocks[origin]
        if block.born is None or block.freed is not None:
            self.refuse(place, f"block {origin} is not made in the iteration and left by it")

    def changes(self) -> None:
        before = 0
        seen: set[tuple[int, bool]] = set()
        for i, change in enumerate(self.trace.changes):
            place = f"changes[{i}]"
            self.index(f"{place}.block", change.block)
            block = self.trace.blocks[change.block]
            what = "born" if change.allocates else "freed"
            slot = block.born if change.allocates else block.freed
            if change.slot != slot:
                self.refuse(
                    f"{place}.slot",
                    f"block {change.block} is {what} in slot {change.slot} here and in {slot} "
                    f"in blocks[{change.block}]",
                )
            if change.slot < before:
                self.refuse(f"{place}.slot", f"slot {change.slot} comes after slot {before}")
            before = change.slot
            if (change.block, change.allocates) in seen:
                self.refuse(place, f"block {change.block} is {what} a second time")
            unborn = block.born is not None and (change.block, True) not in seen
            if unborn and not change.allocates:
                self.refuse(place, f"block {change.block} is freed before it is born")
            seen.add((change.block, change.allocates))
        for i, block in enumerate(self.trace.blocks):
            for allocates, slot in ((True, block.born), (False, block.freed)):
                if slot is not None and (i, allocates) not in seen:
                    what = "allocation" if allocates else "free"
                    self.refuse(f"blocks[{i}]", f"its {what} in slot {slot} is not in changes")
