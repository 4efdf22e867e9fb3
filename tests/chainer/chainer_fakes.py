"""An engine that only records what it is told, for tests of what the hook announces."""

from __future__ import annotations

from typing import Any

import numpy


class FakeEngine:
    """Records calls; every array of at least min_block_bytes that was registered is a block."""

    def __init__(self, min_block_bytes: int = 1) -> None:
        self.min_block_bytes = min_block_bytes
        self.calls: list[tuple[Any, ...]] = []
        self.open: list[str] = []
        self.refuse: set[str] = set()
        self.memory_left: bool = True
        self.has_plan: bool = False
        self.sees_touches = True
        self.current_stream = 0

    def begin_op(self, name, addresses, stream):
        self._check(stream)
        assert all(type(address) is int for address in addresses)
        if name in self.refuse:
            raise MemoryError(name)
        self.calls.append(("begin", name, list(addresses)))
        self.open.append(name)
        return len(self.open) - 1

    def _check(self, stream):
        assert stream == self.current_stream, "the stream was not asked for at this call"

    def end_op(self, retire, stream):
        self._check(stream)
        self.calls.append(("end", self.open.pop(), list(retire)))

    def abort_ops(self, depth, stream):
        self._check(stream)
        assert 0 <= depth <= len(self.open)
        if depth < len(self.open):
            self.calls.append(("abort", self.open[depth:], depth))
        del self.open[depth:]

    def op_depth(self):
        return len(self.open)

    def prefetch(self, addresses, stream):
        self._check(stream)
        self.calls.append(("prefetch", list(addresses)))
        return len(addresses) if self.memory_left else 0

    def may_prefetch(self):
        return not self.has_plan

    def begin_iteration(self):
        self.calls.append(("iteration",))

    def owned(self, addresses):
        return addresses

    def named(self, kind: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def names(self) -> list[str]:
        """The order of everything but prefetches: "iteration", "+name", "-name", "!name"."""
        marks = {"begin": "+{}", "end": "-{}", "abort": "!{}"}
        names = []
        for kind, *rest in self.calls:
            if kind == "iteration":
                names.append(kind)
            elif kind == "abort":
                names.extend(f"!{name}" for name in reversed(rest[0]))
            elif kind in marks:
                names.append(marks[kind].format(rest[0]))
        return names

    def announced(self, name: str) -> set[int]:
        """All addresses given to ops of that name."""
        return {a for n, addresses in self.named("begin") if n == name for a in addresses}


class FakeManager:
    """What the hook needs of a manager."""

    device = "host"
    plan = "none"

    def __init__(self, engine: FakeEngine | None = None, budget_bytes: int = 1 << 30) -> None:
        self.engine = engine or FakeEngine()
        self.budget_bytes = budget_bytes

    def current_stream(self):
        """Another stream each time: one that was remembered is found out."""
        self.engine.current_stream += 1
        return self.engine.current_stream

    def stats(self):
        return {"budget_bytes": self.budget_bytes}

    def add_report(self, lines):
        pass

    def add_run_parts(self, parts):
        pass


def address(array) -> int:
    """Where the memory behind an array starts."""
    while isinstance(array.base, numpy.ndarray):
        array = array.base
    return array.__array_interface__["data"][0]
