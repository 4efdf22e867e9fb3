"""What a manager does when memory, disk or bytes fail: an error with numbers, nothing lost."""

import contextlib
import errno
import os
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


def unnamed_file(directory: Path) -> int:
    """A second descriptor of the store's file, which has no name in the directory."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/self/fd/{name}")
            if link.startswith(str(directory)) and link.endswith("(deleted)"):
                return os.open(f"/proc/self/fd/{name}", os.O_RDWR)
    raise AssertionError(f"no unnamed file in {directory}")


def test_an_array_larger_than_the_budget_is_out_of_memory_with_numbers(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path)
    with pytest.raises(swapmem.OutOfMemory, match="16777216") as caught, memory:
        filled(1, 16 * MiB)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert isinstance(error.__cause__, MemoryError)
    assert error.requested_bytes == error.needed_bytes == 16 * MiB
    assert error.budget_bytes == 8 * MiB
    assert error.used_bytes == 0
    assert error.op == ""
    with memory:
        assert memory.block(filled(1)) is not None


def test_out_of_memory_names_the_operation_and_what_it_holds(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path)

    def program() -> None:
        with memory:
            a = filled(1, 6 * MiB)
            memory.engine.begin_op("grow", [a.ctypes.data])
            filled(2, 4 * MiB)

    with pytest.raises(swapmem.OutOfMemory, match="grow") as caught:
        program()
    assert caught.value.op == "grow"
    assert caught.value.used_bytes == 6 * MiB
    assert caught.value.needed_bytes == 10 * MiB
    memory.engine.abort_ops()


def test_the_budget_that_an_error_names_is_enough(tmp_path: Path) -> None:
    def program(budget: int) -> None:
        with swapmem.Manager(device_memory=budget, spill_dir=tmp_path) as memory:
            a = filled(1, 3 * MiB + 5)
            with memory.pinned(a):
                filled(2, 2 * MiB + 7)

    with pytest.raises(swapmem.OutOfMemory) as caught:
        program(4 * MiB)
    program(caught.value.needed_bytes)


def test_an_operation_that_cannot_fit_is_not_begun(memory: swapmem.Manager) -> None:
    a, b = filled(1, 5 * MiB), filled(2, 5 * MiB)
    with pytest.raises(swapmem.OutOfMemory, match="add") as caught:
        memory.engine.begin_op("add", [a.ctypes.data, b.ctypes.data])
    assert caught.value.needed_bytes == 10 * MiB
    assert memory.engine.op_depth() == 0
    assert memory.stats()["held_bytes"] == 0
    for array, value in ((a, 1), (b, 2)):
        with memory.pinned(array):
            assert holds(array, value)


def test_a_memory_error_of_the_program_itself_stays_what_it_is(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path)
    with pytest.raises(MemoryError, match="my own") as caught, memory:
        raise MemoryError("my own")
    assert not isinstance(caught.value, swapmem.OutOfMemory)


def test_a_failure_that_was_dealt_with_does_not_colour_a_later_one(tmp_path: Path) -> None:
    def program() -> None:
        with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path):
            with contextlib.suppress(MemoryError):
                filled(1, 16 * MiB)
            assert int(filled(1).sum()) == MiB
            raise MemoryError("my own")

    with pytest.raises(MemoryError, match="my own") as caught:
        program()
    assert not isinstance(caught.value, swapmem.OutOfMemory)


def test_a_disk_that_fills_up_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, spill_bytes="8MiB")
    arrays: list[np.ndarray] = []
    with pytest.raises(swapmem.StoreError, match="spill_dir") as caught, memory:
        arrays.extend(filled(i, 2 * MiB) for i in range(20))
    assert caught.value.errno == errno.ENOSPC
    assert len(arrays) >= 7
    memory.engine.check_invariants()
    states = [info.state for a in arrays if (info := memory.block(a)) is not None]
    for i in range(len(arrays) - 1, -1, -1):
        if states[i] != "out":
            assert holds(arrays[i], i)
            arrays[i] = arrays[i][:0].copy()
    assert states.count("out") == 4
    for i, state in enumerate(states):
        if state == "out":
            assert holds(arrays[i], i)
    arrays.clear()
    memory.drain()
    memory.trim()
    stats = memory.stats()
    assert stats["charged_bytes"] == stats["live_bytes"] == stats["store_bytes"] == 0


def test_swap_out_to_a_full_disk_tells_through_the_ticket(tmp_path: Path) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, spill_bytes="2MiB") as memory:
        a, b = filled(1, 2 * MiB), filled(2, 2 * MiB)
        memory.swap_out(a).wait()
        with pytest.raises(swapmem.StoreError) as caught:
            memory.swap_out(b).wait()
        assert caught.value.errno == errno.ENOSPC
        info = memory.block(b)
        assert info is not None
        assert info.state == "resident"
        assert holds(a, 1)
        assert holds(b, 2)


def test_what_was_announced_on_a_full_disk_can_be_caught_and_tried_again(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="4MiB", spill_dir=tmp_path, spill_bytes="4MiB")
    with memory:
        arrays = [filled(i, 2 * MiB) for i in range(4)]
        info = memory.block(arrays[0])
        assert info is not None
        assert info.state == "out"
        with pytest.raises(swapmem.StoreError):
            memory.engine.begin_op("exchange", [arrays[0].ctypes.data])
        assert holds(arrays.pop(), 3)
        for i in range(2):
            memory.engine.begin_op("exchange", [arrays[0].ctypes.data])
            assert holds(arrays[0], i)
            memory.engine.end_op()
            del arrays[0]
        assert holds(arrays[0], 2)


def test_everything_charged_is_nothing_after_a_run(tmp_path: Path) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path) as memory:
        arrays = [filled(i, 2 * MiB) for i in range(8)]
        arrays = [a + np.uint8(1) for a in arrays]
        assert [int(a[-1]) for a in arrays] == list(range(1, 9))
        del arrays
    stats = memory.stats()
    names = ("charged", "live", "resident", "cached", "store", "held")
    assert {name: stats[f"{name}_bytes"] for name in names} == dict.fromkeys(names, 0)
    memory.engine.check_invariants()


def test_a_checksum_turns_corruption_into_a_store_error_and_keeps_the_array(
    tmp_path: Path,
) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, checksum=True) as memory:
        a = filled(7, 2 * MiB)
        memory.swap_out(a).wait()
        file = unnamed_file(tmp_path)
        good = os.pread(file, 4096, 8192)
        assert good == b"\7" * 4096
        os.pwrite(file, b"\7" * 4095 + b"\0", 8192)
        for _ in range(2):
            with pytest.raises(swapmem.StoreError, match="other bytes"):
                memory.swap_in(a).wait()
        with pytest.raises(swapmem.StoreError, match="other bytes"):
            memory.engine.begin_op("use", [a.ctypes.data])
        assert memory.engine.op_depth() == 0
        os.pwrite(file, good, 8192)
        os.close(file)
        memory.swap_in(a).wait()
        assert holds(a, 7)


def test_the_file_is_readable_by_its_owner_alone_and_has_no_name(tmp_path: Path) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path) as memory:
        a = filled(7)
        memory.swap_out(a).wait()
        file = unnamed_file(tmp_path)
        assert os.fstat(file).st_mode & 0o777 == 0o600
        assert os.fstat(file).st_nlink == 0
        os.close(file)
        assert os.listdir(tmp_path) == []


def test_spill_bytes_are_taken_at_once(tmp_path: Path) -> None:
    memory = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, spill_bytes="16MiB")
    file = unnamed_file(tmp_path)
    assert os.fstat(file).st_blocks * 512 >= 16 * MiB
    os.close(file)
    assert memory.stats()["store_budget_bytes"] == 16 * MiB
