"""What a manager says to arguments that make no sense."""

import errno
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swapmem


@pytest.mark.parametrize(
    "size",
    [-1, "-1", "", "8XB", "eight", "1e3GiB", "nan", "1 MiB 2", 2**64, 2**70, "1000000000TiB"],
)
@pytest.mark.parametrize("argument", ["device_memory", "spill_bytes"])
def test_a_size_that_makes_no_sense_is_a_value_error_that_names_it(
    argument: str, size: int | str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"device_memory": "8MiB", argument: size}
    with pytest.raises(ValueError, match=re.escape(str(size)) or None):
        swapmem.Manager(spill_dir=tmp_path, **arguments)


@pytest.mark.parametrize("size", [1.5, b"1MiB", [1], {}])
def test_a_size_of_another_type_is_a_type_error(size: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        swapmem.Manager(device_memory=size, spill_dir=tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "cuda:-1", "", "HOST"])
def test_an_unknown_device_is_a_value_error_that_names_what_there_is(
    device: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"{device!r}.*'host'"):
        swapmem.Manager(device=device, spill_dir=tmp_path)


@pytest.mark.parametrize("size", [0, 1, "8", "63KiB"])
def test_a_budget_below_the_smallest_block_says_what_would_do(
    size: int | str, tmp_path: Path
) -> None:
    with pytest.raises(swapmem.OutOfMemory, match="65536 bytes") as caught:
        swapmem.Manager(device_memory=size, spill_dir=tmp_path)
    assert caught.value.needed_bytes == 65536
    assert caught.value.budget_bytes < 65536


@pytest.mark.parametrize("size", ["1.5MiB", 3 << 19, np.int64(3 << 19), " 1536 kib "])
def test_sizes_are_read_as_people_write_them(size: Any, tmp_path: Path) -> None:
    manager = swapmem.Manager(device_memory=size, spill_dir=tmp_path)
    assert manager.stats()["budget_bytes"] == 3 << 19


def test_a_missing_spill_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(swapmem.StoreError, match="nowhere") as caught:
        swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path / "nowhere")
    assert caught.value.errno == errno.ENOENT


def test_a_spill_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a_file"
    path.write_text("x")
    with pytest.raises(swapmem.StoreError, match="a_file") as caught:
        swapmem.Manager(device_memory="8MiB", spill_dir=path)
    assert caught.value.errno == errno.ENOTDIR


def test_a_spill_directory_that_takes_no_file_is_named() -> None:
    with pytest.raises(swapmem.StoreError, match="/proc"):
        swapmem.Manager(device_memory="8MiB", spill_dir="/proc")


@pytest.mark.parametrize("size", [1 << 50, 1 << 60])
def test_more_spill_bytes_than_the_file_system_has_is_a_store_error(
    size: int, tmp_path: Path
) -> None:
    with pytest.raises(swapmem.StoreError, match=str(tmp_path)) as caught:
        swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, spill_bytes=size)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC, errno.EOPNOTSUPP)


def test_a_manager_that_failed_leaves_no_file_descriptor(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(swapmem.StoreError):
            swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path, spill_bytes=1 << 50)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a tmpfs at /dev/shm")
def test_a_spill_directory_in_memory_is_told_once_and_works() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with swapmem.Manager(device_memory="8MiB", spill_dir="/dev/shm") as memory:
            a = np.arange(1 << 18)
            memory.swap_out(a).wait()
            assert np.array_equal(a, np.arange(1 << 18))
    tmpfs = [warning for warning in caught if "tmpfs" in str(warning.message)]
    assert [warning.category for warning in tmpfs] == [RuntimeWarning]
    assert "tmpfs" in memory.report()


def test_a_spill_directory_on_disk_gives_no_warning_of_tmpfs(tmp_path: Path) -> None:
    if os.stat(tmp_path).st_dev == os.stat("/dev/shm").st_dev:
        pytest.skip("the directory for temporary files is in memory")
    manager = swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path)
    assert not any("/dev/shm" in notice for notice in manager.engine.notices())
