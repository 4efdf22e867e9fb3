"""`swapmem explain`: which files it writes, and what it says of bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("click")

from click.testing import CliRunner, Result

from swapmem.cli.explain import explain_command
from swapmem.explain import text
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run, save_run


def save(run: Run, path: Path) -> Path:
    save_run(path, **{name: getattr(run, name) for name in Run.__dataclass_fields__})
    return path


@pytest.fixture
def file(run: Run, tmp_path: Path) -> Path:
    return save(run, tmp_path / "resnet.json.gz")


def explain(*arguments: str | Path) -> Result:
    return CliRunner().invoke(explain_command, [str(argument) for argument in arguments])


def test_by_default_it_prints_the_text_and_writes_every_file(run: Run, file: Path) -> None:
    result = explain(file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(text.explanation(run, measured(run)))
    names = ["resnet.html", "resnet.json.gz", "resnet.perfetto.json", "resnet.png"]
    assert sorted(path.name for path in file.parent.iterdir()) == names
    for name in names:
        if name != file.name:
            assert str(file.parent / name) in result.stdout


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--text"], []),
        (["--html"], ["resnet.html"]),
        (["--perfetto"], ["resnet.perfetto.json"]),
        (["--picture"], ["resnet.png"]),
        (["--html", "--text", "--picture"], ["resnet.html", "resnet.png"]),
    ],
)
def test_what_is_asked_for_is_all_that_it_does(
    file: Path, flags: list[str], names: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "place"
    result = explain(file, "--out", out, *flags)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.glob("*")) == names
    assert ("the 10 longest" in result.stdout) == ("--text" in flags)
    assert not out.exists() or names


def test_any_iteration_can_be_asked_for(run: Run, file: Path) -> None:
    assert explain(file, "--text", "--iteration", "0").exit_code == 0
    result = explain(file, "--text", "--iteration", "7")
    assert result.exit_code == 2
    assert "no iteration 7: the run's events hold 3" in result.stderr


def test_blocks_can_be_asked_why(file: Path) -> None:
    result = explain(file, "--block", r"^stem\.W")
    assert result.stdout == "stem.W (block 0), 1.0 MiB: not eligible: a variable refers to it\n"
    assert explain(file, "--block", "nothing").exit_code == 1
    assert "no block matches 'nothing'" in explain(file, "--block", "nothing").stderr
    assert explain(file, "--block", "(").exit_code == 2


def test_a_run_without_a_plan_has_no_reasons_but_all_files(run: Run, tmp_path: Path) -> None:
    file = save(replace(run, plan=None, simulation=None), tmp_path / "run.json")
    assert explain(file).exit_code == 0
    result = explain(file, "--block", "stem")
    assert result.exit_code == 1
    assert "had no plan" in result.stderr


def test_bad_input_is_refused_in_a_line_that_names_it(file: Path, tmp_path: Path) -> None:
    missing = explain(tmp_path / "missing.json")
    assert missing.exit_code == 1
    assert f"{tmp_path / 'missing.json'}: No such file" in missing.stderr
    (tmp_path / "other.json").write_text(json.dumps({"format": "other"}))
    other = explain(tmp_path / "other.json")
    assert other.exit_code == 2
    assert "other.json: no run file" in other.stderr
    (tmp_path / "empty.json").write_text("")
    assert "cut off" in explain(tmp_path / "empty.json").stderr
    save_run(tmp_path / "nothing.json", events=(), stats={})
    nothing = explain(tmp_path / "nothing.json")
    assert nothing.exit_code == 2
    assert "nothing to show" in nothing.stderr


def test_a_directory_that_cannot_be_written_to_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = explain(file, "--html", "--out", tmp_path / "taken" / "below")
    assert result.exit_code == 1
    assert str(tmp_path / "taken") in result.stderr
