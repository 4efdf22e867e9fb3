"""Blocks on a GPU without any framework; on the fake driver, and on a real one if there is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_cuda import run_on_fake_driver, run_on_gpu

pytest.importorskip("click")

PROGRAM = str(Path(__file__).parent / "gpu_blocks.py")

# Every kind of case on few bytes: what is measured means nothing here.
BENCH = """
import sys
from swapmem.cli import cuda_cases, main
cuda_cases._TURN_BYTES = 8 << 20
cuda_cases._PIN_BYTES = 8 << 20
cuda_cases._LOOPS = 10
main()
"""

RAW = """
from swapmem.cli.direct_file import pages
from swapmem.cli.pattern import Pattern
from swapmem.cli.raw_driver import Copy, DriverError, Gpu

MIB = 1 << 20
with Gpu(0) as gpu:
    pattern, host, pageable = Pattern(), pages(8 * MIB), pages(8 * MIB)
    pattern.fill(host, 1)
    gpu.pin(host)
    mapping = gpu.map(8 * MIB)
    gpu.copy_pinned([Copy("in", host, mapping.address)], MIB)
    host.fill(0)
    gpu.copy_pinned([Copy("out", host, mapping.address)], 3 * MIB)
    pattern.check(host, 1)
    gpu.copy_pageable(Copy("out", pageable, mapping.address), MIB)
    pattern.check(pageable, 1)
    half = host.size // 2
    out = Copy("out", host[:half], mapping.address)
    back = Copy("in", host[half:], mapping.address + 8 * half)
    gpu.copy_pinned([out, back], MIB)
    gpu.unmap(mapping)
    gpu.map_again(mapping)
    gpu.unmap(mapping)
    gpu.free(mapping)
    gpu.unpin(host)
    gpu.host_free(gpu.host_alloc(MIB))
    assert 0 < gpu.free_bytes()
try:
    Gpu(99)
except DriverError as error:
    assert "CUDA_ERROR_INVALID_DEVICE (101)" in str(error), error
else:
    raise AssertionError
print(gpu.version)
"""


def test_the_plain_driver_copies_and_maps_and_leaves_nothing(tmp_path: Path) -> None:
    run = run_on_fake_driver("-c", RAW, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


@pytest.mark.parametrize("seed", range(4))
def test_blocks_keep_their_bytes_on_the_fake_driver(seed: int, tmp_path: Path) -> None:
    run = run_on_fake_driver(PROGRAM, str(seed), "150", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_every_kind_of_gpu_case_runs_on_the_fake_driver(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    # "allocate" is CuPy's, which needs a driver that is none of ours.
    run = run_on_fake_driver(
        *("-c", BENCH, "bench", "--filter", "^cuda0/(?!allocate).*/(512KiB|2MiB|8MiB|16MiB)$"),
        *("--seconds", "0.01", "--spill-dir", str(tmp_path), "--json", str(file)),
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    cases = {case["key"].split("/")[1]: case for case in json.loads(file.read_text())["cases"]}
    kinds = {
        "out",
        "in",
        "both",
        "file_out",
        "file_in",
        "map",
        "remap",
        "pageable_out",
        "pageable_in",
        "pin",
    }
    assert kinds <= set(cases)
    for kind in kinds:
        assert not cases[kind]["error"], cases[kind]
        assert cases[kind]["ours"]["samples"], cases[kind]


def test_the_doctor_describes_the_device(tmp_path: Path) -> None:
    arguments = ("-m", "swapmem", "doctor", "--json", "--spill-dir", str(tmp_path))
    run = run_on_fake_driver(*arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    found = {line["name"]: line for line in json.loads(run.stdout)["findings"]}
    assert found["cuda:0 mapping"]["text"] == "in pieces of 2.0 MiB"
    assert "GB/s" in found["cuda:0 link"]["text"]


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(4))
def test_blocks_keep_their_bytes_on_a_gpu(seed: int, tmp_path: Path) -> None:
    run = run_on_gpu(PROGRAM, str(seed), "400", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


@pytest.mark.gpu
def test_the_plain_driver_is_spoken_to_rightly(tmp_path: Path) -> None:
    run = run_on_gpu("-c", RAW, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
