"""What a manager promises: who may enter, what its calls do, what it tells."""

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import swapmem

MiB = 1 << 20


def filled(value: int, size_bytes: int = MiB) -> np.ndarray:
    return np.full(size_bytes, value, np.uint8)


def holds(array: np.ndarray, value: int) -> bool:
    """Whether every element is `value`; makes no array, for there may be no room for one."""
    return int(array.min()) == int(array.max()) == value


def test_a_manager_cannot_be_entered_twice_and_stays_active(memory: swapmem.Manager) -> None:
    with pytest.raises(swapmem.Error, match="active"), memory:
        pass
    assert memory.block(filled(1)) is not None


def test_a_second_manager_cannot_be_entered(memory: swapmem.Manager, tmp_path: Path) -> None:
    other = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path)
    with pytest.raises(swapmem.Error, match="another manager is active"), other:
        pass
    assert memory.block(filled(1)) is not None
    assert other.stats()["live_bytes"] == 0


def test_a_manager_cannot_be_entered_in_another_thread(memory: swapmem.Manager) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            memory.__enter__()
        except swapmem.Error as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "memory.thread()" in str(errors[0])


def test_a_manager_can_be_entered_again_after_it_was_left(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="4MiB", spill_dir=tmp_path)
    kept = []
    for i in range(6):
        with memory:
            kept.append(filled(i))
        assert memory.block(filled(9)) is None
    assert [int(a.min()) for a in kept] == [int(a.max()) for a in kept] == list(range(6))


def test_managers_one_after_the_other_keep_their_arrays_apart(tmp_path: Path) -> None:
    arrays = []
    for i in range(3):
        with swapmem.Manager(device_memory="4MiB", spill_dir=tmp_path) as memory:
            arrays.append(filled(i))
            memory.swap_out(arrays[-1]).wait()
    assert [int(a.sum()) for a in arrays] == [0, MiB, 2 * MiB]


def test_an_exception_passes_through_and_another_manager_can_be_entered(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path)
    with pytest.raises(KeyError, match="mine"), memory:
        raise KeyError("mine")
    assert memory.block(filled(1)) is None
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path) as other:
        assert other.block(filled(1)) is not None


def test_a_swap_out_and_in_keeps_address_and_bytes(memory: swapmem.Manager) -> None:
    a = np.arange(MiB // 8)
    address = a.ctypes.data
    ticket = memory.swap_out(a[5:7])
    ticket.wait()
    assert ticket.done()
    info = memory.block(a)
    assert info is not None
    assert (info.state, info.bytes, info.held, info.pinned) == ("out", MiB, False, False)
    assert memory.stats()["resident_bytes"] == 0
    memory.swap_in(a).wait()
    info = memory.block(a)
    assert info is not None
    assert info.state in ("resident", "clean")
    assert a.ctypes.data == address
    assert np.array_equal(a, np.arange(MiB // 8))
    assert memory.faults() == []


def test_a_touch_is_a_fault_that_names_block_and_operation(memory: swapmem.Manager) -> None:
    a = filled(3)
    info = memory.block(a)
    assert info is not None
    memory.swap_out(a).wait()
    memory.engine.begin_op("look", [])
    assert int(a[100]) == 3
    memory.engine.end_op()
    (fault,) = memory.faults()
    assert (fault.op, fault.bytes) == ("look", MiB)
    assert fault.seconds >= 0
    assert memory.stats()["faults"] == 1


def test_what_an_operation_announced_is_no_fault(memory: swapmem.Manager) -> None:
    a = filled(3)
    memory.swap_out(a).wait()
    memory.engine.begin_op("look", [a.ctypes.data])
    assert int(a[100]) == 3
    with pytest.raises(swapmem.InvalidBlock, match="held"):
        memory.swap_out(a)
    memory.engine.end_op()
    memory.swap_out(a).wait()
    assert memory.faults() == []


@pytest.mark.parametrize("call", ["swap_out", "swap_in", "pin", "unpin"])
def test_arrays_that_are_no_blocks_are_refused(memory: swapmem.Manager, call: str) -> None:
    method = getattr(memory, call)
    small = np.ones(10)
    foreign = np.frombuffer(bytearray(MiB), np.uint8)
    for array in (small, foreign, [1, 2], None):
        with pytest.raises(swapmem.InvalidBlock):
            method(array)
    with pytest.raises(ValueError, match="block"):
        method(small)


def test_pinned_lets_arrays_be_that_are_no_blocks(memory: swapmem.Manager) -> None:
    a = filled(1)
    with memory.pinned(a, np.ones(3), a[3:]):
        info = memory.block(a)
        assert info is not None
        assert info.pinned
    memory.swap_out(a).wait()


def test_a_pinned_array_stays_and_pins_are_counted(memory: swapmem.Manager) -> None:
    a = filled(1)
    memory.swap_out(a).wait()
    memory.pin(a)
    memory.pin(a)
    others = [filled(i, 2 * MiB) for i in range(8)]
    info = memory.block(a)
    assert info is not None
    assert (info.state, info.pinned, info.held) == ("resident", True, True)
    memory.unpin(a)
    with pytest.raises(swapmem.InvalidBlock, match="pinned"):
        memory.swap_out(a)
    memory.unpin(a)
    with pytest.raises(swapmem.InvalidBlock, match="not pinned"):
        memory.unpin(a)
    memory.swap_out(a).wait()
    assert [int(x[-1]) for x in others] == list(range(8))


def test_pins_that_would_not_fit_are_refused_and_change_nothing(memory: swapmem.Manager) -> None:
    a, b = filled(1, 5 * MiB), filled(2, 5 * MiB)
    memory.pin(a)
    with pytest.raises(swapmem.OutOfMemory) as caught:
        memory.pin(b)
    assert caught.value.requested_bytes == 5 * MiB
    assert caught.value.used_bytes == 5 * MiB
    assert caught.value.needed_bytes == 10 * MiB
    info = memory.block(b)
    assert info is not None
    assert not info.pinned
    memory.unpin(a)
    for array, value in ((b, 2), (a, 1)):
        with memory.pinned(array):
            assert holds(array, value)


def test_trim_gives_cached_memory_back(memory: swapmem.Manager) -> None:
    a = filled(1, 4 * MiB)
    del a
    memory.drain()
    assert memory.trim() == 4 * MiB
    stats = memory.stats()
    assert stats["cached_bytes"] == stats["charged_bytes"] == 0
    assert memory.trim() == 0


def test_drain_waits_until_no_copy_is_under_way(memory: swapmem.Manager) -> None:
    arrays = [filled(i) for i in range(6)]
    tickets = [memory.swap_out(a) for a in arrays]
    memory.drain()
    assert all(ticket.done() for ticket in tickets)
    assert memory.stats()["resident_bytes"] == 0


def test_statistics_count_what_moved(memory: swapmem.Manager) -> None:
    a = filled(1, 2 * MiB)
    memory.swap_out(a).wait()
    memory.swap_in(a).wait()
    memory.swap_out(a).wait()  # unchanged: nothing to write
    stats = memory.stats()
    assert stats["swap_out_bytes"] == stats["swap_in_bytes"] == 2 * MiB
    assert (stats["swap_out_count"], stats["swap_in_count"]) == (1, 1)
    assert stats["clean_evictions"] == 2
    assert stats["store_bytes"] == stats["peak_store_bytes"] == 2 * MiB
    assert stats["peak_charged_bytes"] <= stats["budget_bytes"] == 8 * MiB


def test_statistics_are_kept_by_operation(memory: swapmem.Manager) -> None:
    a = filled(1, 2 * MiB)
    for _ in range(3):
        memory.swap_out(a).wait()
        memory.engine.begin_op("sum", [a.ctypes.data])
        memory.engine.end_op()
    (row,) = [row for row in memory.stats()["by_op"] if row["op"] == "sum"]
    assert row["calls"] == 3
    assert row["swap_in_bytes"] == 6 * MiB
    assert memory.stats()["largest_op"] == "sum"
    assert "sum" in memory.report()


def test_the_trace_is_in_order_of_time_and_within_the_budget(memory: swapmem.Manager) -> None:
    begun_seconds = time.monotonic()
    arrays = [filled(i, 2 * MiB) for i in range(8)]
    assert sum(int(a[0]) for a in arrays) == 28
    events = memory.trace()
    times = [event.time_seconds for event in events]
    assert times == sorted(times)
    assert begun_seconds <= times[0]
    assert times[-1] <= time.monotonic()
    assert {"allocate", "swap_out", "swap_in", "evict", "fault"} <= {e.kind for e in events}
    assert max(event.charged_bytes for event in events) <= 8 * MiB
    assert all(event.resident_bytes <= event.charged_bytes for event in events)


def test_paranoid_swaps_out_what_no_operation_holds(tmp_path: Path) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, paranoid=True) as memory:
        a, b = filled(1), filled(2)
        memory.engine.begin_op("declared", [a.ctypes.data])
        assert int(a[0]) + int(b[0]) == 3
        memory.engine.end_op()
        memory.drain()
        for array in (a, b):
            info = memory.block(array)
            assert info is not None
            assert info.state == "out"
        memory.engine.begin_op("undeclared", [a.ctypes.data])
        assert int(a[0]) + int(b[0]) == 3
        memory.engine.end_op()
        assert [fault.op for fault in memory.faults()] == ["undeclared"]


def test_managers_that_wait_only_to_be_collected_make_room_for_new_ones():
    def leave_a_cycle():
        with swapmem.Manager(device="host", device_memory="1MiB"):
            arrays = [np.ones(1 << 14)]
            arrays.append(arrays)

    gc.disable()
    try:
        for _ in range(40):  # at most 16 are alive
            leave_a_cycle()
    finally:
        gc.enable()
