"""Run files: what is saved is what is loaded, and nothing that contradicts itself is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swapmem
from swapmem.explain.run_file import Run, RunFileError, load_run, save_run
from swapmem.planner.errors import TraceError

Edit = Callable[[dict[str, Any]], object]


def save(run: Run, path: Path) -> Path:
    save_run(path, **{name: getattr(run, name) for name in Run.__dataclass_fields__})
    return path


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_what_is_loaded_is_what_was_saved(run: Run, name: str, tmp_path: Path) -> None:
    assert load_run(save(run, tmp_path / name)) == run


def test_a_run_without_trace_and_plan_is_a_run(tmp_path: Path) -> None:
    save_run(tmp_path / "run.json", events=(), stats={})
    assert load_run(tmp_path / "run.json") == Run(events=(), stats={})


def test_what_a_manager_tells_can_be_saved_as_it_is(tmp_path: Path) -> None:
    with swapmem.Manager(device="host", device_memory="4MiB", spill_dir=str(tmp_path)) as memory:
        arrays = [np.full(1 << 20, i, np.uint8) for i in range(8)]
        assert [int(array[7]) for array in arrays] == list(range(8))
        events, stats = memory.trace(), memory.stats()
    save_run(tmp_path / "run.json.gz", events=events, stats=stats)
    loaded = load_run(tmp_path / "run.json.gz")
    assert loaded.events == tuple(events)
    assert loaded.stats == json.loads(json.dumps(stats))


def test_equal_runs_are_equal_files(run: Run, tmp_path: Path) -> None:
    first, second = save(run, tmp_path / "a.json.gz"), save(run, tmp_path / "b.json.gz")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == bytes(4)  # gzip's time of writing


def test_a_run_that_cannot_be_written_leaves_the_old_one(run: Run, tmp_path: Path) -> None:
    path = save(run, tmp_path / "run.json")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save_run(path, events=(), stats={"stall_seconds": float("nan")})
    with pytest.raises(TypeError, match="cannot hold object"):
        save_run(path, events=(), stats={"device": object()})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_ids_of_blocks_that_the_trace_has_not_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 block ids for 321 blocks"):
        save_run(tmp_path / "r.json", events=(), stats={}, trace=run.trace, block_ids=(1, 2, 3))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_a_file_that_was_cut_off_is_refused(
    run: Run, share: float, name: str, tmp_path: Path
) -> None:
    path = save(run, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RunFileError, match=r"run\.json.*: cut off"):
        load_run(path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"no", b"[1]", b"{}", b'{"format": "swapmem trace"}']
)
def test_what_is_no_run_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=r"x\.json: (no run file|cut off)"):
        load_run(path)


def test_a_file_whose_name_lies_about_compression_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.json.gz").write_text("{}")
    with pytest.raises(RunFileError, match="not what its name says"):
        load_run(tmp_path / "plain.json.gz")
    (tmp_path / "packed.json").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(RunFileError, match="not what its name says"):
        load_run(tmp_path / "packed.json")


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda run: run.update(version=2), "version 2"),
        (lambda run: run.pop("stats"), "stats"),
        (lambda run: run["events"][5].pop(), r"events\[5\]"),
        (lambda run: run["events"][5].__setitem__(0, "soon"), r"events\[5\]"),
        (lambda run: run["events"][5].__setitem__(0, 1.0), r"events\[5\]: earlier"),
        (lambda run: run["events"][5].__setitem__(4, 10**6), r"events\[5\]: op 1000000"),
        (lambda run: run["events"][5].__setitem__(4, -1), r"events\[5\]: op -1"),
        (lambda run: run["events"][5].__setitem__(6, -1), r"events\[5\]: a figure is below 0"),
        (lambda run: run["block_ids"].pop(), "block_ids: 320 for 321"),
        (lambda run: run.update(trace=None, block_ids=[]), "trace: missing"),
        (lambda run: run["simulation"].pop("stalls"), "stalls"),
        (lambda run: run["simulation"]["op_begin_seconds"].pop(), "not of 209 ops"),
        (lambda run: run["simulation"]["copies"][0].__setitem__(0, 999), "copies"),
        (lambda run: run["simulation"]["copies"][0].__setitem__(1, "up"), "copies: up of"),
        (lambda run: run["simulation"]["stalls"][0].__setitem__(0, 999), "stalls: op 999"),
    ],
)
def test_a_file_edited_by_hand_is_refused_at_the_place_that_was_edited(
    run: Run, edit: Edit, place: str, tmp_path: Path
) -> None:
    path = save(run, tmp_path / "run.json")
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RunFileError, match=place):
        load_run(path)


def test_a_trace_that_contradicts_itself_is_refused_by_the_planners_rules(
    run: Run, tmp_path: Path
) -> None:
    path = save(run, tmp_path / "run.json")
    content = json.loads(path.read_text())
    content["trace"]["blocks"][3]["bytes"] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(TraceError, match=r"run\.json.*blocks\[3\]"):
        load_run(path)
