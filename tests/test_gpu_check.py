"""`make gpu-check` without a GPU: its limits on time, its arithmetic, its table and its JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click")

from bench import gpu_check
from bench.gpu_check import bars_of, conclusions, link_of, record
from bench.gpu_parts import Part, PartResult, run_part, run_parts
from bench.gpu_train import GpuCase, GpuRun
from bench.gpu_training import Link, bound, compare
from swapmem.cli.site import Device

MIB = 1 << 20
CASE = GpuCase("resnet50", 448, 16, "cupy")


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def run(part: Part, tmp_path: Path, seconds: float = 60) -> PartResult:
    return run_part(part, tmp_path, time.monotonic() + seconds)


def test_a_part_passes_when_all_its_commands_do(tmp_path: Path) -> None:
    result = run(Part("p", [python("print(1)"), python("print(2)")], 60), tmp_path)
    assert (result.status, result.output, result.last_line) == ("passed", "1\n2\n", "2")


def test_the_first_failure_ends_a_part(tmp_path: Path) -> None:
    part = Part("p", [python("raise SystemExit(3)"), python("print('on')")], 60)
    result = run(part, tmp_path)
    assert (result.status, result.reason, result.output) == ("failed", "status 3", "")


def test_a_signal_is_named(tmp_path: Path) -> None:
    result = run(Part("p", [python("import os; os.kill(os.getpid(), 9)")], 60), tmp_path)
    assert result.reason == "ended by signal 9"


def test_a_command_that_does_not_exist_is_a_failure(tmp_path: Path) -> None:
    result = run(Part("p", [["/no/such/program"]], 60), tmp_path)
    assert result.status == "failed"
    assert "/no/such/program: No such file" in result.output


# Tells its own number and its child's, then neither ends by itself.
ENDLESS = ["sh", "-c", "echo $$; sleep 600 & echo $!; wait"]


def gone(process: int) -> bool:
    """Whether a process ended; a zombie that nobody waited for did."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("whose", ["its own limit", "the deadline"])
def test_a_part_ends_at_its_limit_with_all_its_children(whose: str, tmp_path: Path) -> None:
    limits = (1.0, 600.0) if whose == "its own limit" else (600.0, 1.0)
    result = run(Part("p", [ENDLESS], limits[0]), tmp_path, limits[1])
    assert result.status == "timed out"
    processes = [int(word) for word in result.output.split()]
    assert len(processes) == 2
    end = time.monotonic() + 30
    while not all(gone(process) for process in processes):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_to_run_passes_and_is_said(tmp_path: Path) -> None:
    part = Part("p", [python("raise SystemExit(5)")], 60, nothing_status=5)
    result = run(part, tmp_path)
    assert (result.status, result.reason) == ("passed", "there was nothing to run")


def test_a_part_changes_its_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONE", "1")
    program = "import os; print(os.environ.get('GONE'), os.environ['NEW'])"
    part = Part("p", [python(program)], 60, environment={"GONE": None, "NEW": "2"})
    assert run(part, tmp_path).last_line == "None 2"
    assert os.environ["GONE"] == "1"
    assert "NEW" not in os.environ


def test_a_part_whose_need_failed_does_not_run_and_others_do(tmp_path: Path) -> None:
    parts = [
        Part("build", [python("raise SystemExit(1)")], 60),
        Part("suites", [python("")], 60, needs="build"),
        Part("tests", [python("")], 60),
    ]
    told: list[str] = []
    results = run_parts(parts, tmp_path, time.monotonic() + 60, told.append)
    assert [result.status for result in results] == ["failed", "not run", "passed"]
    assert results[1].reason == "needs: build"
    assert told[0] == "build ..."


def test_after_the_deadline_nothing_is_begun(tmp_path: Path) -> None:
    (result,) = run_parts([Part("p", [python("")], 60)], tmp_path, time.monotonic() - 1)
    assert (result.status, result.reason) == ("not run", "no time is left")


def bench_case(key: str, block_bytes: int, ratio: float | None, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "block_bytes": block_bytes,
        "ratio": ratio,
        "skipped": "",
        "beside": {"samples": [50.0, 52.0, 54.0]},
        **more,
    }


def test_cases_are_set_beside_their_bars() -> None:
    bench = {
        "cases": [
            bench_case("cuda0/out/64KiB", 64 << 10, 0.1),
            bench_case("cuda0/out/2MiB", 2 * MIB, 0.81),
            bench_case("cuda0/in/16MiB", 16 * MIB, 0.96),
            bench_case("cuda0/both/64MiB", 64 * MIB, 0.95),
            bench_case("cuda0/allocate/1MiB", MIB, 1.01),
            bench_case("cuda0/out/64MiB", 64 * MIB, None),
            bench_case("cuda0/out/1GiB", 1 << 30, None, skipped="too large"),
        ]
    }
    assert {bar["key"]: bar["met"] for bar in bars_of(bench)} == {
        "cuda0/out/2MiB": True,
        "cuda0/in/16MiB": False,
        "cuda0/both/64MiB": True,
        "cuda0/allocate/1MiB": False,
        "cuda0/out/64MiB": False,
    }


def test_the_link_is_the_median_of_the_raw_copies() -> None:
    cases = [bench_case("cuda0/out/64MiB", 64 * MIB, 1.0)]
    assert link_of({"cases": cases}) == Link(out_rate=52e9, in_rate=0)
    assert link_of(None) == Link(0, 0)


@pytest.mark.parametrize(
    ("out_bytes", "in_bytes", "seconds"), [(0, 0, 2.0), (300, 0, 3.0), (300, 800, 4.0)]
)
def test_the_bound_is_the_longest_of_computing_and_each_way(
    out_bytes: float, in_bytes: float, seconds: float
) -> None:
    assert bound(2.0, out_bytes, in_bytes, Link(100, 200)) == seconds


def test_without_a_measured_link_the_bound_is_the_computation() -> None:
    assert bound(2.0, 1e12, 1e12, Link(0, 0)) == 2.0


def fake_run(case: GpuCase) -> GpuRun:
    """What a run might print: out of core takes half as long again."""
    limited = case.memory == "swapmem" and case.budget_bytes is not None
    stats = {
        "peak_live_bytes": 4000,
        "largest_op_bytes": 500,
        "swap_out_bytes": 8000 if limited else 0,
        "swap_in_bytes": 4000 if limited else 0,
    }
    return GpuRun(
        seconds=[9.0, 3.0, 3.0, 3.0] if limited else [9.0, 2.0, 2.0, 2.0],
        weights="abc",
        pool_bytes=0 if case.memory == "swapmem" else 5000,
        stats=stats if case.memory == "swapmem" else {},
    )


def commands(ran: list[GpuCase], **changed: str) -> Any:
    """Command lines that print what `fake_run` says, or other weights for some memory."""

    def command(case: GpuCase) -> list[str]:
        ran.append(case)
        limited = case.memory == "swapmem" and case.budget_bytes is not None
        found = asdict(fake_run(case))
        found["weights"] = changed.get("limited" if limited else case.memory, "abc")
        return python(f"print('a warning'); print({json.dumps(found)!r})")

    return command


def test_a_network_is_compared_in_core_and_at_a_quarter_of_its_peak(tmp_path: Path) -> None:
    ran: list[GpuCase] = []
    found = compare(CASE, Link(1000, 500), False, lambda part: run(part, tmp_path), commands(ran))
    assert [case.memory for case in ran] == ["cupy", "swapmem", "swapmem"]
    assert [case.budget_bytes for case in ran] == [None, None, 1000]
    assert found.error == ""
    assert found.what == "ResNet50 448 batch 16"
    assert found.passed
    assert found.in_core_seconds == [2.0, 2.0, 2.0]
    assert found.out_of_core_seconds == [3.0, 3.0, 3.0]
    assert (found.out_bytes, found.in_bytes) == (2000, 1000)
    assert found.bound_seconds == 2.0
    assert "--managed" in found.managed_reason


def test_managed_memory_is_used_only_if_asked_for(tmp_path: Path) -> None:
    ran: list[GpuCase] = []
    found = compare(CASE, Link(0, 0), True, lambda part: run(part, tmp_path), commands(ran))
    assert ran[-1].memory == "managed"
    assert ran[-1].budget_bytes == 1000
    assert found.managed_seconds == [2.0, 2.0, 2.0]
    assert found.managed_reason == ""


def test_an_op_that_needs_more_than_a_quarter_gets_it(tmp_path: Path) -> None:
    ran: list[GpuCase] = []

    def command(case: GpuCase) -> list[str]:
        ran.append(case)
        found = asdict(fake_run(case))
        if found["stats"]:
            found["stats"]["largest_op_bytes"] = 1500
        return python(f"print({json.dumps(found)!r})")

    compare(CASE, Link(0, 0), False, lambda part: run(part, tmp_path), command)
    assert ran[-1].budget_bytes == 1500


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"limited": "other"}, "depend on the budget"),
        ({"cupy": "other"}, "not those that CuPy alone gives"),
    ],
)
def test_other_weights_do_not_pass(changed: dict[str, str], words: str, tmp_path: Path) -> None:
    found = compare(
        CASE, Link(0, 0), False, lambda part: run(part, tmp_path), commands([], **changed)
    )
    content = record([], None, [found], "")
    assert not content["passed"]
    assert any(words in line for line in conclusions(content))


@pytest.mark.parametrize(
    ("program", "words"),
    [("raise SystemExit('no memory')", "no memory"), ("print('{}')", "no result")],
)
def test_a_run_that_fails_leaves_no_figures_and_is_named(
    program: str, words: str, tmp_path: Path
) -> None:
    found = compare(
        CASE, Link(0, 0), False, lambda part: run(part, tmp_path), lambda _: python(program)
    )
    assert words in found.error
    assert not record([], None, [found], "")["passed"]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check changes for its commands ends with a test."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "cuda_devices", lambda: ([], "no driver here"))


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("status", [0, 1])
def test_without_a_gpu_it_says_so_and_its_status_is_that_of_what_ran(
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    part = Part("suites", [python(f"print('[suite] output'); raise SystemExit({status})")], 60)
    monkeypatch.setattr(gpu_check, "parts_without_gpu", lambda: [part])
    assert gpu_check.main(["--out", str(tmp_path)]) == status
    printed = capsys.readouterr().out
    assert "No GPU here (no driver here)" in printed
    assert ("not yet run on a GPU" in printed) == (status == 0)
    assert ("[suite] output" in printed) == (status == 1)
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    assert content["schema"] == gpu_check.SCHEMA
    assert (content["gpu"], content["passed"]) == (False, status == 0)
    assert content["parts"][0]["status"] == ("passed" if status == 0 else "failed")
    assert content["bench"] is None
    assert content["training"] == []


def test_with_a_gpu_everything_goes_into_one_table_and_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device(0, "GPU", 80 << 30, 2 * MIB, vmm=True)
    monkeypatch.setattr(gpu_check, "cuda_devices", lambda: ([device], ""))
    monkeypatch.setattr(gpu_check, "_driver", lambda: "CUDA 13.0")

    def parts(bench_json: Path) -> list[Part]:
        bench = {
            "cases": [
                bench_case("cuda0/out/64MiB", 64 * MIB, 0.98),
                bench_case("cuda0/in/64MiB", 64 * MIB, 0.99),
            ]
        }
        program = f"open({str(bench_json)!r}, 'w').write({json.dumps(bench)!r})"
        return [Part("swapmem bench", [python(program)], 60)]

    def comparison(case: GpuCase, link: Link, managed: bool, carry_out: Any) -> Any:
        assert link == Link(52e9, 52e9)
        return compare(case, link, managed, carry_out, commands([]))

    monkeypatch.setattr(gpu_check, "parts_on_gpu", parts)
    monkeypatch.setattr(gpu_check, "compare", comparison)
    monkeypatch.setenv("SWAPMEM_CUDA_DRIVER", "/an/imitation.so")
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    assert "SWAPMEM_CUDA_DRIVER" not in os.environ
    # Tests run programs elsewhere, and the package may not be installed.
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(gpu_check.ROOT)
    printed = capsys.readouterr().out
    for words in ("cuda0/out/64MiB", "GoogLeNet 448", "ResNet50 448", "identical", "on the GPU"):
        assert words in printed
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    assert content["passed"]
    assert content["driver"] == "CUDA 13.0"
    assert [bar["met"] for bar in content["bars"]] == [True, True]
    assert len(content["training"]) == 2
    assert content["bench"]["cases"][0]["beside"]["samples"]


def test_the_parts_fit_into_ten_minutes() -> None:
    parts = gpu_check.parts_on_gpu(Path("bench.json"))
    assert gpu_check.TOTAL_SECONDS < 600
    assert len({part.name for part in parts}) == len(parts)


@pytest.mark.parametrize(
    "parts", [gpu_check.parts_on_gpu(Path("x")), gpu_check.parts_without_gpu()]
)
def test_what_parts_name_is_there(parts: list[Part]) -> None:
    assert {part.needs for part in parts} <= {"", *(part.name for part in parts)}
    words = [word for part in parts for command in part.commands for word in command]
    for word in words:
        if word.startswith("tests/"):
            assert (gpu_check.ROOT / word).exists()


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_directory_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_check.main(["--out", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_check_never_takes_an_imitation_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def devices() -> tuple[list[Device], str]:
        seen.append(os.environ.get("SWAPMEM_CUDA_DRIVER"))
        return [], "none"

    monkeypatch.setenv("SWAPMEM_CUDA_DRIVER", "/an/imitation.so")
    monkeypatch.setattr(gpu_check, "cuda_devices", devices)
    monkeypatch.setattr(gpu_check, "parts_without_gpu", list)
    monkeypatch.delenv("OUT", raising=False)
    gpu_check.main([])
    assert seen == [None]
