"""`swapmem bench`: what it measures, what it writes, and what bad input gets."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("click")

from click.testing import CliRunner, Result

import swapmem
from swapmem import _core
from swapmem.cli import commands, cuda_cases, host_blocks, host_cases, results
from swapmem.cli.case import Case, Contest, Outcome, measure
from swapmem.cli.direct_file import DirectFile, Job, pages
from swapmem.cli.pattern import Pattern, WrongBytes
from swapmem.cli.site import Device, Site, file_system

GIB, MIB = 1 << 30, 1 << 20
GPU = Device(0, "GPU", 80 * GIB, 2 * MIB, vmm=True)


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(commands.swapmem_command, ["bench", *arguments])


def site(**changes: Any) -> Site:
    facts: dict[str, Any] = {
        "spill_dir": "/nowhere",
        "file_system": "ext4",
        "available_bytes": 64 * GIB,
        "disk_free_bytes": 64 * GIB,
        "devices": (),
        "no_device": "no driver",
        "cupy": False,
    }
    return Site(**{**facts, **changes})


def a_case(run: Any, reason: str | None = None, unit: Any = "GB/s") -> Case:
    return Case(
        key="host/out/64KiB",
        description="for a test",
        block_bytes=1 << 16,
        unit=unit,
        ours="ours",
        beside="theirs",
        filter=lambda _: reason,
        run=run,
    )


@pytest.fixture
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of a megabyte: enough to see that cases work."""
    monkeypatch.setattr(host_cases, "_TURN_BYTES", 1 * MIB)


@pytest.mark.usefixtures("few_bytes")
def test_every_kind_of_host_case_runs_and_leaves_nothing(tmp_path: Path) -> None:
    spill, results_dir = tmp_path / "spill", tmp_path / "results"
    spill.mkdir()
    results_dir.mkdir()
    file, drawn = results_dir / "bench.json", results_dir / "bench.png"
    run = bench(
        *("--filter", "host/.*/(64|256)KiB", "--seconds", "0.01", "--spill-dir", str(spill)),
        *("--json", str(file), "--picture", str(drawn)),
    )
    assert run.exit_code == 0, run.output
    record = json.loads(file.read_text())
    actions = {case["key"].split("/")[1] for case in record["cases"]}
    assert actions == {"out", "in", "both", "map", "unmap", "allocate"}
    for case in record["cases"]:
        assert case["skipped"] == case["error"] == ""
        assert len(case["ours"]["samples"]) == len(case["beside"]["samples"]) >= 3
        assert all(sample > 0 for sample in case["ours"]["samples"] + case["beside"]["samples"])
        assert case["ratio"] > 0
        assert case["key"] in run.stdout
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(spill) == []
    assert sorted(os.listdir(results_dir)) == ["bench.json", "bench.png"]


@pytest.mark.usefixtures("few_bytes")
def test_the_json_says_what_was_measured_where(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    bench("--filter", "host/allocate/64KiB", "--seconds", "0.01", "--json", str(file))
    record = json.loads(file.read_text())
    assert record["schema"] == results.SCHEMA
    assert record["versions"]["swapmem"] == swapmem.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["machine"]["cores"] >= 1
    assert record["seconds_per_case"] == 0.01
    (case,) = record["cases"]
    assert (case["unit"], case["more_is_better"]) == ("us", False)
    assert case["beside"]["name"] == "stock NumPy"


def test_the_list_names_every_case_and_measures_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "measure", None)
    run = bench("--list")
    assert run.exit_code == 0
    cases = host_cases.host_cases() + cuda_cases.cuda_cases(None)
    for case in cases:
        assert case.key in run.stdout
        assert case.description in run.stdout
    assert len({case.key for case in cases}) == len(cases)


def test_a_case_that_does_not_apply_is_skipped_with_its_reason(tmp_path: Path) -> None:
    outcome = measure(a_case(None, reason="no such thing here"), site(), 1)
    assert outcome.skipped == "no such thing here"
    assert not outcome.measured
    assert results.remarks([outcome]) == ["skipped: host/out/64KiB: no such thing here"]


def test_three_turns_are_taken_however_short_the_time() -> None:
    order: list[str] = []

    def ours() -> float:
        order.append("ours")
        return 2.0

    def beside() -> float:
        order.append("beside")
        return 4.0

    @contextlib.contextmanager
    def run(_: Site) -> Iterator[Contest]:
        yield Contest(ours, beside)
        order.append("closed")

    clock = itertools.count(step=100)
    outcome = measure(a_case(run), site(), 1, clock=lambda: float(next(clock)))
    # One turn warms up; the last thing is that the case is taken down.
    assert order == ["beside", "ours"] * 4 + ["closed"]
    assert outcome.ours == [2.0] * 3
    assert outcome.ratio == 0.5
    assert outcome.ratio_spread == (0.5, 0.5)


def test_turns_go_on_until_the_time_is_over() -> None:
    @contextlib.contextmanager
    def run(_: Site) -> Iterator[Contest]:
        yield Contest(lambda: 1.0, lambda: 1.0)

    clock = itertools.count()
    outcome = measure(a_case(run), site(), 10, clock=lambda: float(next(clock)))
    # The clock is asked once at the start, and before each turn but the first three.
    assert len(outcome.ours) == 3 + 9


@pytest.mark.parametrize(
    "error",
    [
        swapmem.StoreError(errno.ENOSPC, "the disk is full"),
        WrongBytes("other bytes"),
        MemoryError(),
        OSError(errno.EIO, "broken disk"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_case_that_fails_is_reported_and_the_others_go_on(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> float:
        raise error

    @contextlib.contextmanager
    def broken(_: Site) -> Iterator[Contest]:
        yield Contest(fail, lambda: 1.0)

    @contextlib.contextmanager
    def sound(_: Site) -> Iterator[Contest]:
        yield Contest(lambda: 1.0, lambda: 1.0)

    monkeypatch.setattr(commands, "host_cases", lambda: [a_case(broken), a_case(sound)])
    file = tmp_path / "bench.json"
    run = bench("--filter", "host", "--seconds", "0.001", "--json", str(file))
    assert run.exit_code == 1
    assert "failed: host/out/64KiB: " in run.stdout
    assert "1 of 2 cases failed" in run.stderr
    failed, fine = json.loads(file.read_text())["cases"]
    assert failed["error"]
    assert failed["ratio"] is None
    assert fine["ratio"] == 1.0


@pytest.mark.usefixtures("few_bytes")
def test_bytes_that_come_back_wrong_fail_the_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Pattern, array: Any, turn: int, block: int = 0) -> None:
        raise WrongBytes("block 0 came back with other bytes")

    monkeypatch.setattr(Pattern, "check", wrong)
    keys = [f"host/{action}/" for action in ("out", "in", "both", "unmap")]
    for key in keys:
        run = bench("--filter", f"{key}256KiB|{key}1MiB", "--spill-dir", str(tmp_path))
        assert run.exit_code == 1, run.output
        assert "other bytes" in run.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_the_pattern_sees_one_wrong_byte(where: str) -> None:
    pattern, array = Pattern(), np.empty(3 << 17, np.uint64)
    pattern.fill(array, 5, 7)
    pattern.check(array, 5, 7)
    at = {"first": 0, "middle": array.nbytes // 2, "last": array.nbytes - 1}[where]
    array.view(np.uint8)[at] ^= 1
    with pytest.raises(WrongBytes, match="block 7 .* turn 5"):
        pattern.check(array, 5, 7)


@pytest.mark.parametrize(("turn", "block"), [(6, 7), (5, 8)])
def test_the_pattern_of_another_turn_or_block_is_wrong(turn: int, block: int) -> None:
    pattern, array = Pattern(), np.empty(1 << 17, np.uint64)
    pattern.fill(array, 5, 7)
    with pytest.raises(WrongBytes):
        pattern.check(array, turn, block)


def test_the_plain_file_brings_back_what_was_written(tmp_path: Path) -> None:
    pattern, memory = Pattern(), pages(3 * MIB)
    pattern.fill(memory, 1)
    half = memory.size // 2
    with DirectFile(str(tmp_path)) as file:
        file.move([Job("write", memory, 0)], 256 << 10)
        memory.fill(0)
        file.move([Job("read", memory[:half], 0), Job("read", memory[half:], 8 * half)], 256 << 10)
        assert os.listdir(tmp_path) == []
    pattern.check(memory, 1)


def test_calls_that_fall_short_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: write(fd, [parts[0][:4096]], at))
    pattern, memory = Pattern(), pages(64 << 10)
    pattern.fill(memory, 1)
    with DirectFile(str(tmp_path)) as file:
        file.move([Job("write", memory, 0)])
        memory.fill(0)
        file.move([Job("read", memory, 0)])
    pattern.check(memory, 1)


def test_reading_beyond_the_end_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    with DirectFile(str(tmp_path)) as file, pytest.raises(OSError, match="ended early"):
        file.move([Job("read", pages(64 << 10), 0)])


def test_a_file_system_without_unnamed_files_gets_one_that_is_unlinked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_open = os.open

    def refuse(path: Any, flags: int, *mode: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return plain_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with DirectFile(str(tmp_path)) as file:
        file.move([Job("write", pages(64 << 10), 0)])
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "where", "words"),
    [
        ("host/out/1GiB", site(available_bytes=GIB), "of memory are available"),
        ("host/out/1GiB", site(disk_free_bytes=GIB), "free in the spill directory"),
        ("host/out/1GiB", site(available_bytes=4 * GIB, file_system="tmpfs"), "are available"),
        ("host/map/256MiB", site(available_bytes=MIB), "of memory are available"),
        ("cuda0/out/64KiB", site(), "no driver"),
        ("cuda0/out/64KiB", site(devices=(GPU,)), "smaller than the smallest block"),
        ("cuda0/out/64KiB", site(devices=(GPU._replace(vmm=False),)), "virtual memory management"),
        ("cuda0/out/1GiB", site(devices=(GPU._replace(memory_bytes=GIB),)), "of device memory"),
        ("cuda0/out/1GiB", site(devices=(GPU,), available_bytes=GIB), "of host memory"),
        ("cuda0/allocate/1MiB", site(devices=(GPU,)), "CuPy is not installed"),
    ],
)
def test_what_does_not_fit_is_skipped_with_numbers(key: str, where: Site, words: str) -> None:
    cases = {case.key: case for case in host_cases.host_cases() + cuda_cases.cuda_cases(None)}
    reason = cases[key].filter(where)
    assert reason is not None
    assert words in reason


def test_every_case_applies_to_a_large_machine() -> None:
    large = site(devices=(GPU,), cupy=True, no_device="")
    for case in host_cases.host_cases() + cuda_cases.cuda_cases(GPU):
        if case.device == "host" or case.block_bytes >= _core.min_cuda_block_bytes:
            assert case.filter(large) is None, case.key


def test_every_gpu_has_its_own_cases() -> None:
    keys = {case.key for case in cuda_cases.cuda_cases(GPU._replace(ordinal=3))}
    assert all(key.startswith("cuda3/") for key in keys)


def test_the_file_system_of_a_directory_is_found() -> None:
    assert file_system("/proc") == "proc"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--filter", "no/such/case"], "no case matches 'no/such/case'"),
        (["--filter", "("], "no regular expression"),
        (["--seconds", "0"], "must be above 0"),
        (["--seconds", "-1"], "must be above 0"),
        (["--seconds", "nan"], "must be above 0"),
        (["--seconds", "soon"], "'soon' is not a valid float"),
        (["--json", "{tmp}/nowhere/x.json"], "does not exist"),
        (["--json", "{tmp}"], "is a directory"),
        (["--picture", "{tmp}/x.bmp"], ".png"),
        (["--picture", "{tmp}/nowhere/x.png"], "does not exist"),
        (["--spill-dir", "{tmp}/nowhere"], "does not exist"),
        (["--spill-dir", "{tmp}/file"], "is no directory"),
        (["--such-an-option"], "--such-an-option"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "measure", None)
    (tmp_path / "file").touch()
    run = bench(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert run.exit_code == 2, run.output
    assert words in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_a_spill_directory_that_takes_no_file_is_bad_input(
    code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: DirectFile, size_bytes: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(DirectFile, "reserve", refuse)
    run = bench("--spill-dir", str(tmp_path))
    assert run.exit_code == 2
    assert os.strerror(code) in run.stderr


def test_where_nothing_can_be_measured_the_status_says_so() -> None:
    reason = cuda_cases.cuda_cases(None)[0].filter(Site.here("/tmp"))
    if reason is None:
        pytest.skip("there is a GPU")
    run = bench("--filter", "^cuda0/out")
    assert run.exit_code == 1
    assert reason in run.stdout
    assert "nothing was measured" in run.stderr


def test_an_interrupt_ends_with_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()

    def interrupted(case: Case, where: Site, seconds: float) -> Outcome:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return Outcome(case, skipped="for a test")

    monkeypatch.setattr(commands, "measure", interrupted)
    run = bench("--filter", "host", "--json", str(tmp_path / "x.json"))
    assert run.exit_code == 1
    assert re.match(r"swapmem: interrupted after 2 of \d+ cases", run.stderr.strip())
    assert os.listdir(tmp_path) == []


def test_an_interrupt_in_a_case_leaves_no_manager_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(host_cases, "_TURN_BYTES", 1 * MIB)
    monkeypatch.setattr(host_blocks.Blocks, "out", interrupt)
    run = bench("--filter", "host/out/64KiB", "--spill-dir", str(tmp_path))
    assert run.exit_code == 1
    with swapmem.Manager(device="host", device_memory="8MiB", spill_dir=tmp_path):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("few_bytes")
def test_arrays_that_cannot_be_made_leave_no_manager_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, calls = np.empty, itertools.count()

    def fail(*arguments: Any) -> Any:
        if next(calls) == 3:
            raise MemoryError
        return empty(*arguments)

    monkeypatch.setattr(host_blocks.np, "empty", fail)
    with pytest.raises(MemoryError), host_blocks.Blocks(site(spill_dir=str(tmp_path)), 1 << 16, 8):
        pass
    with swapmem.Manager(device="host", device_memory="8MiB", spill_dir=tmp_path):
        pass


def test_a_json_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench.json"
    file.write_text("old")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        results.write_json(file, {})
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["bench.json"]


def test_the_command_prints_whole_lines_into_a_pipe() -> None:
    command = [sys.executable, "-m", "swapmem", "bench", "--list", "--filter", "^host/"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    keys = [line.split()[0] for line in run.stdout.splitlines() if "host/" in line]
    assert keys == [case.key for case in host_cases.host_cases()]
