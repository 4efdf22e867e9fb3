"""The Python API against a plain model: whatever the order of calls, no array loses a byte."""

import tempfile
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

import swapmem

KiB = 1 << 10
BUDGET_BYTES = 2048 * KiB
MOST_ARRAYS = 40
SIZES = [64 * KiB, 64 * KiB + 1, 100 * KiB, 256 * KiB, 300 * KiB]
# What may be held at once, so that a touch always finds room for itself and two others.
MOST_HELD_BYTES = 700 * KiB


class ArraysAgainstCopies(RuleBasedStateMachine):
    """Arrays of a manager beside their content as bytes."""

    arrays: Bundle[int] = Bundle("arrays")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.memory = swapmem.Manager(device_memory=BUDGET_BYTES, spill_dir=self.directory.name)
        self.memory.__enter__()
        self.real: dict[int, np.ndarray[Any, Any]] = {}
        self.model: dict[int, bytes] = {}
        self.pins: list[int] = []
        self.ops: list[list[int]] = []
        self.tickets: list[Any] = []
        self.count = 0

    def teardown(self) -> None:
        try:
            self.memory.engine.abort_ops()
            for name in self.pins:
                self.memory.unpin(self.real[name])
            for name in self.real:
                self.check(name)
        finally:
            # Also after a failure: of managers one can be active and 16 alive, and Hypothesis keeps
            # the machines.
            self.real.clear()
            self.tickets.clear()
            self.memory.__exit__(None, None, None)
            stats = self.memory.stats()
            del self.memory
            self.directory.cleanup()
        assert stats["charged_bytes"] == stats["live_bytes"] == stats["store_bytes"] == 0

    def check(self, name: int) -> None:
        # Not within the assert: pytest would keep the array of a failure, and so its manager.
        same = self.real[name].tobytes() == self.model[name]
        assert same, f"array {name} has other bytes"

    def held_bytes(self) -> int:
        names = {*self.pins, *(name for op in self.ops for name in op)}
        return sum(len(self.model[name]) for name in names)

    def may_hold(self, name: int) -> bool:
        return self.held_bytes() + len(self.model[name]) <= MOST_HELD_BYTES

    def add(self, array: np.ndarray[Any, Any], content: bytes) -> int:
        self.count += 1
        self.real[self.count] = array
        self.model[self.count] = content
        if self.ops:
            self.ops[-1].append(self.count)
        return self.count

    def may_allocate(self, size_bytes: int) -> bool:
        """Operations hold what is made in them."""
        room = not self.ops or self.held_bytes() + size_bytes <= MOST_HELD_BYTES
        return room and len(self.real) < MOST_ARRAYS

    @rule(target=arrays, size_bytes=st.sampled_from(SIZES), value=st.integers(0, 255))
    def allocate(self, size_bytes: int, value: int) -> Any:
        if not self.may_allocate(size_bytes):
            return multiple()
        array = np.full(size_bytes, value, np.uint8)
        return self.add(array, bytes([value]) * size_bytes)

    @rule(target=arrays, size_bytes=st.sampled_from(SIZES))
    def allocate_zeros(self, size_bytes: int) -> Any:
        if not self.may_allocate(size_bytes):
            return multiple()
        return self.add(np.zeros(size_bytes, np.uint8), bytes(size_bytes))

    @rule(target=arrays)
    @precondition(lambda self: not self.ops)
    def fill_the_budget(self) -> Any:
        """Enough arrays at once that others must leave."""
        names = []
        for size in SIZES * 3:
            if self.may_allocate(size):
                value = self.count % 256
                names.append(self.add(np.full(size, value, np.uint8), bytes([value]) * size))
        return multiple(*names)

    @rule(name=arrays, at=st.floats(0, 1), values=st.binary(min_size=1, max_size=9))
    def write(self, name: int, at: float, values: bytes) -> None:
        begin = int(at * (len(self.model[name]) - len(values)))
        self.real[name][begin : begin + len(values)] = np.frombuffer(values, np.uint8)
        before = self.model[name]
        self.model[name] = before[:begin] + values + before[begin + len(values) :]

    @rule(name=arrays)
    def read(self, name: int) -> None:
        self.check(name)

    @rule(name=arrays, step=st.sampled_from([-4097, -1, 2, 4096]))
    def read_through_a_view(self, name: int, step: int) -> None:
        same = self.real[name][::step][:64].tobytes() == self.model[name][::step][:64]
        assert same, f"array {name} has other bytes"

    @rule(name=consumes(arrays))
    def free(self, name: int) -> None:
        while name in self.pins:
            self.pins.remove(name)
            self.memory.unpin(self.real[name])
        for op in self.ops:
            op[:] = [held for held in op if held != name]
        del self.real[name], self.model[name]

    @rule(name=arrays, wait=st.booleans())
    def swap_out(self, name: int, wait: bool) -> None:
        held = name in self.pins or any(name in op for op in self.ops)
        try:
            ticket = self.memory.swap_out(self.real[name])
        except swapmem.InvalidBlock:
            assert held
            return
        assert not held
        if wait:
            ticket.wait()
        else:
            self.tickets.append(ticket)

    @rule(name=arrays, wait=st.booleans())
    def swap_in(self, name: int, wait: bool) -> None:
        ticket = self.memory.swap_in(self.real[name])
        if wait:
            ticket.wait()
        else:
            self.tickets.append(ticket)

    @rule()
    def wait_for_tickets(self) -> None:
        while self.tickets:
            self.tickets.pop().wait()

    @rule(name=arrays)
    def pin(self, name: int) -> None:
        if self.may_hold(name):
            self.memory.pin(self.real[name])
            self.pins.append(name)

    @rule()
    @precondition(lambda self: self.pins)
    def unpin(self) -> None:
        self.memory.unpin(self.real[self.pins.pop()])

    @rule(name=arrays)
    @precondition(lambda self: len(self.ops) < 3)
    def begin_op(self, name: int) -> None:
        if self.may_hold(name):
            self.memory.engine.begin_op(f"op {name % 3}", [self.real[name].ctypes.data, 0])
            self.ops.append([name])

    @rule(name=arrays)
    @precondition(lambda self: self.ops)
    def end_op(self, name: int) -> None:
        self.memory.engine.end_op([self.real[name].ctypes.data])
        ended = self.ops.pop()
        if self.ops:
            self.ops[-1] += ended

    @rule()
    def abort_ops(self) -> None:
        self.memory.engine.abort_ops()
        self.ops.clear()

    @rule()
    def trim(self) -> None:
        self.memory.trim()

    @rule()
    def drain(self) -> None:
        self.memory.drain()

    @invariant()
    def the_engine_is_whole(self) -> None:
        self.memory.engine.check_invariants()

    @invariant()
    def the_budget_holds(self) -> None:
        stats = self.memory.stats()
        assert stats["resident_bytes"] <= stats["charged_bytes"] <= BUDGET_BYTES
        assert stats["peak_charged_bytes"] <= BUDGET_BYTES

    @invariant()
    def ops_and_pins_are_as_told(self) -> None:
        assert self.memory.engine.op_depth() == len(self.ops)
        for name in self.real:
            info = self.memory.block(self.real[name])
            assert info is not None
            address = self.real[name].ctypes.data
            assert info.address == address
            assert info.pinned == (name in self.pins)


TestArraysAgainstCopies = ArraysAgainstCopies.TestCase
TestArraysAgainstCopies.settings = settings(
    derandomize=True,
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
