"""`swapmem doctor`: what it says of a machine, and when it calls it unusable."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click")

from click.testing import CliRunner, Result

import swapmem
from swapmem.cli import checks_gpu, checks_memory, checks_software, checks_spill, finding
from swapmem.cli.commands import swapmem_command
from swapmem.cli.control_group import control_group
from swapmem.cli.direct_file import DirectFile
from swapmem.cli.finding import Finding
from swapmem.cli.pattern import WrongBytes
from swapmem.cli.site import Device

GIB = 1 << 30


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(swapmem_command, ["doctor", *arguments])


def findings(*arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    result = doctor(*arguments, "--json")
    listed = json.loads(result.stdout)["findings"]
    return {(found["section"], found["name"]): found for found in listed}


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


def test_this_machine_is_usable_and_nothing_stays_in_the_spill_directory(tmp_path: Path) -> None:
    result = doctor("--spill-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    for word in ("Python", "NumPy", "RAM", "userfaultfd", "O_DIRECT", "ok"):
        assert word in result.stdout
    assert os.listdir(tmp_path) == []


def test_json_holds_what_the_table_shows(tmp_path: Path) -> None:
    result = doctor("--spill-dir", str(tmp_path), "--json")
    record = json.loads(result.stdout)
    assert record["schema"] == 1
    assert record["usable"] is True
    assert {found["level"] for found in record["findings"]} <= {"ok", "note", "problem"}
    assert all(found["help"] for found in record["findings"] if found["level"] == "problem")


def test_a_measured_rate_says_that_bytes_were_verified(tmp_path: Path) -> None:
    rate = findings("--spill-dir", str(tmp_path))["spill directory", "rate"]
    assert "bytes verified" in rate["text"] or "too little room" in rate["text"]


def test_a_disk_that_returns_other_bytes_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_spill.Pattern, "check", raising(WrongBytes("block 0 differs")))
    result = doctor("--spill-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "loses data" in result.stdout


def test_a_spill_directory_that_is_missing_makes_the_machine_unusable(tmp_path: Path) -> None:
    result = doctor("--spill-dir", str(tmp_path / "nowhere"))
    assert result.exit_code == 1
    assert "does not exist" in result.stdout
    assert "--spill-dir" in result.stdout


def test_a_spill_directory_that_is_a_file_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert checks_spill.unusable(str(file)) == f"{file} is no directory"


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EACCES, "cannot be written to"), (errno.ENOSPC, "is full")]
)
def test_a_spill_directory_that_takes_no_file_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    monkeypatch.setattr(DirectFile, "__init__", raising(OSError(code, os.strerror(code))))
    result = doctor("--spill-dir", str(tmp_path))
    assert result.exit_code == 1
    assert words in result.stdout
    assert os.strerror(code) in result.stdout


def test_a_directory_without_o_direct_is_measured_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_open = os.open

    def refuse(path: Any, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return plain_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    found = {line.name: line for line in checks_spill.check(str(tmp_path), default=False)}
    assert found["O_DIRECT"].level == "note"
    assert found["rate"].level == "note"


def test_a_file_system_in_memory_is_said_plainly() -> None:
    line = checks_spill._kind("tmpfs")
    assert line.level == "note"
    assert "RAM" in line.text
    assert line.help


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (swapmem.DeviceError(0, "libcuda.so.1 not found"), "libcuda.so.1 not found"),
        (None, "knows no CUDA"),
    ],
    ids=["no driver", "no support"],
)
def test_without_a_driver_one_line_says_so_and_arrays_live_in_ram(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, words: str
) -> None:
    if error is None:
        monkeypatch.delattr(swapmem._core, "cuda_devices", raising=False)
    else:
        monkeypatch.setattr(swapmem._core, "cuda_devices", raising(error), raising=False)
    (line,) = checks_gpu.check()
    assert line.level == "note"
    assert words in line.text
    assert "RAM" in line.help


def test_a_device_without_virtual_memory_management_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(0, "Old GPU", 4 * GIB, 0, vmm=False)
    monkeypatch.setattr(checks_gpu, "cuda_devices", lambda: ([device], ""))
    lines = list(checks_gpu.check())
    assert [line.name for line in lines] == ["cuda:0", "cuda:0 mapping"]
    assert lines[-1].level == "note"
    assert "cannot use this device" in lines[-1].text


class FakeGpu:
    """Copies in no time; counts what is taken and given back."""

    taken = 0
    version = "13.0"

    def __init__(self, ordinal: int) -> None:
        pass

    def __enter__(self) -> FakeGpu:
        FakeGpu.taken += 1
        return self

    def __exit__(self, *error: object) -> None:
        FakeGpu.taken -= 1

    def free_bytes(self) -> int:
        return 2 * GIB

    def pin(self, host: Any) -> None:
        FakeGpu.taken += 1

    def unpin(self, host: Any) -> None:
        FakeGpu.taken -= 1

    def map(self, size_bytes: int) -> Any:
        FakeGpu.taken += 1
        return type("Mapping", (), {"address": 1})

    def unmap(self, mapping: Any) -> None:
        pass

    def free(self, mapping: Any) -> None:
        FakeGpu.taken -= 1

    def copy_pinned(self, copies: Any, piece_bytes: int) -> float:
        return 64 * (1 << 20) / 50e9


def test_a_device_is_described_with_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(0, "Fast GPU", 80 * GIB, 2 << 20, vmm=True)
    monkeypatch.setattr(checks_gpu, "cuda_devices", lambda: ([device], ""))
    monkeypatch.setattr(checks_gpu, "Gpu", FakeGpu)
    monkeypatch.setattr(checks_gpu, "_LINK_SECONDS", 0.0)
    lines = {line.name: line for line in checks_gpu.check()}
    assert "Fast GPU" in lines["cuda:0"].text
    assert "2.0 MiB" in lines["cuda:0 mapping"].text
    assert "CUDA 13.0" in lines["cuda:0 driver"].text
    assert lines["cuda:0 memory"].level == "note"  # 2 of 80 GiB are free
    assert "50.0 GB/s to the device" in lines["cuda:0 link"].text
    assert FakeGpu.taken == 0


def test_a_driver_that_refuses_a_call_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(0, "GPU", 80 * GIB, 2 << 20, vmm=True)
    monkeypatch.setattr(checks_gpu, "cuda_devices", lambda: ([device], ""))
    monkeypatch.setattr(checks_gpu, "Gpu", raising(checks_gpu.DriverError("cuInit: no luck")))
    assert list(checks_gpu.check())[-1].text == "not measured: cuInit: no luck"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (checks_memory._lockable(resource.RLIM_INFINITY), "ok"),
        (checks_memory._lockable(8 << 20), "ok"),
        (checks_memory._mappings("65530"), "ok"),
        (checks_memory._mappings("1000"), "note"),
        (checks_memory._mappings(None), "note"),
        (checks_memory._overcommit("0"), "ok"),
        (checks_memory._overcommit("2"), "note"),
        (checks_memory._overcommit(None), "note"),
        (checks_memory._huge_pages("always [madvise] never"), "ok"),
        (checks_memory._huge_pages("always madvise [never]"), "note"),
        (checks_memory._huge_pages(None), "note"),
        (checks_software._linux("linux", "5.15.0-1"), "ok"),
        (checks_software._linux("linux", "4.4.0"), "note"),
        (checks_software._linux("darwin", "23"), "problem"),
        (checks_software._cupy({"cupy": None}), "note"),
        (checks_software._cupy({"cupy": "14.2.0"}), "ok"),
        (checks_software._cupy({"cupy": "14.2.0", "cupy-cuda13x": "14.2.0"}), "note"),
        (checks_software._chainer(None), "note"),
        (checks_software._chainer("7.8.1"), "ok"),
        (checks_software._chainer("7.8.0"), "note"),
        (checks_spill._kind("ext4"), "ok"),
        (checks_spill._kind("nfs4"), "note"),
        (checks_spill._room(1 << 20), "note"),
        (checks_spill._room(1 << 40), "ok"),
        (checks_spill._direct(False), "note"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.name} {value.text[:20]}",
)
def test_each_setting_has_its_level(line: Finding, level: str) -> None:
    assert line.level == level


def test_several_numa_nodes_are_a_note(tmp_path: Path) -> None:
    assert checks_memory._nodes(tmp_path / "none").level == "ok"
    for name in ("node0", "node1", "online"):
        (tmp_path / name).mkdir()
    assert checks_memory._nodes(tmp_path).text.startswith("2:")


def group_files(directory: Path, names: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in names.items():
        (directory / name).write_text(text)


def test_the_tightest_control_group_of_all_ancestors_counts(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    stat = "anon 5\ninactive_file 100\nactive_file 50\n"
    mount = tmp_path / "mount"
    group_files(mount / "a", {"memory.max": "1000", "memory.current": "900", "memory.stat": stat})
    group_files(
        mount / "a" / "b", {"memory.max": "max", "memory.current": "10", "memory.stat": stat}
    )
    group = control_group(membership, mount)
    assert group is not None
    assert (group.limit_bytes, group.room_bytes) == (1000, 250)


def test_control_groups_of_the_first_version_are_read(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("3:cpu:/x\n2:memory:/x\n")
    group_files(
        tmp_path / "memory" / "x",
        {
            "memory.limit_in_bytes": "1000",
            "memory.usage_in_bytes": "400",
            "memory.stat": "total_inactive_file 1\ntotal_active_file 2\n",
        },
    )
    group_files(
        tmp_path / "memory",
        {
            "memory.limit_in_bytes": str((1 << 63) - 4096),
            "memory.usage_in_bytes": "1",
            "memory.stat": "",
        },
    )
    group = control_group(membership, tmp_path)
    assert group is not None
    assert (group.limit_bytes, group.room_bytes) == (1000, 603)


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert control_group(tmp_path / "missing", tmp_path) is None


def test_a_problem_makes_unusable_and_a_note_does_not() -> None:
    note = Finding("s", "n", "note", "text", "help")
    assert finding.usable([note])
    assert not finding.usable([note, Finding("s", "p", "problem", "text", "help")])


@pytest.fixture
def blocked(tmp_path: Path) -> dict[str, str]:
    """An environment in which click cannot be imported."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}


def test_without_the_extra_one_line_says_what_to_install(blocked: dict[str, str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "swapmem", "doctor"], env=blocked, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert "pip install 'swapmem[cli]'" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "swapmem", "doctor", "--json", "--spill-dir", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["usable"] is True
