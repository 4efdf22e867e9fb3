import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from swapmem.cli.plan import plan_command
from swapmem.explain import run_file
from swapmem.planner import memory, preflight, trace_json
from tests.planner import synthetic

# Nothing in it names a segment, so that plans are quickly made.
TRACE = synthetic.chain(10, parameter_bytes=1 << 20, link=synthetic.rates(5e8))


@pytest.fixture
def trace_file(tmp_path):
    path = tmp_path / "trace.json"
    trace_json.save(TRACE, path)
    return path


def run(*arguments):
    return CliRunner().invoke(plan_command, [str(argument) for argument in arguments])


def test_a_trace_alone_gives_a_range_of_budgets(trace_file):
    result = run(trace_file)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith(f"{len(TRACE.ops)} ops, {len(TRACE.blocks)} blocks; in core")
    assert sum("x  " in line and "iB" in line for line in lines) == 8
    assert "100%" in result.output
    assert "1.00x" in result.output


def test_a_run_file_is_as_good_as_its_trace(trace_file, tmp_path):
    run_path = tmp_path / "run.json"
    run_file.save_run(run_path, events=[], stats={}, trace=TRACE)
    assert run(run_path).output == run(trace_file).output
    unplanned = tmp_path / "unplanned.json"
    run_file.save_run(unplanned, events=[], stats={})
    result = run(unplanned)
    assert result.exit_code == 2
    assert "holds no trace" in result.output


def test_budget_link_and_device_are_those_that_were_asked_for(trace_file, tmp_path):
    out = tmp_path / "rows.json"
    budget = memory.peak(TRACE) // 2
    options = ("--device-memory", budget, "--link", "25GB/s", "--compute-scale", "3")
    result = run(trace_file, *options, "--json", out)
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert record["link"]["out_bytes_per_second"] == 25e9
    assert record["in_core_bytes"] == memory.peak(TRACE)
    (row,) = record["rows"]
    assert row["budget_bytes"] == budget
    compute = sum(op.seconds for op in TRACE.ops) / 3
    assert row["seconds"] == pytest.approx(compute, rel=0.05)


def test_the_curve_is_drawn(trace_file, tmp_path):
    picture = tmp_path / "curve.svg"
    result = run(trace_file, "--picture", picture)
    assert result.exit_code == 0, result.output
    for word in ("budget, MiB", "seconds an iteration", "predicted", "bound", "in core"):
        assert f"<!-- {word} -->" in picture.read_text()


def test_fit_answers_in_budgets_batches_and_insizes(trace_file):
    budget = preflight.smallest_budget(TRACE) * 2
    size = ("--batch", 4, "--insize", 224)
    options = ("--recompute", "never", "--device-memory", budget, "--slowdown", "1.5")
    result = run(trace_file, "--fit", *size, *options)
    assert result.exit_code == 0, result.output
    assert "smallest budget for 1.5x: " in result.output
    assert f"smallest budget at all: {preflight.smallest_budget(TRACE):,} bytes" in result.output
    assert re.search(
        r"at any speed: [12]\.\d\d times .*, or batch [78], or insize 3\d\d\n", result.output
    )


def test_reasons_name_every_block(trace_file):
    budget = memory.peak(TRACE) // 2
    result = run(trace_file, "--reasons", "--device-memory", budget)
    assert result.exit_code == 0, result.output
    assert result.output.count("kept: ") + result.output.count("swapped: ") == len(TRACE.blocks)


def test_a_budget_without_a_plan_is_said_and_fails(trace_file):
    result = run(trace_file, "--device-memory", "1MiB")
    assert result.exit_code == 1
    assert "no plan: needs" in result.output
    assert f"it takes {preflight.smallest_budget(TRACE):,} bytes" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--device-memory", "plenty"), "not a size: 'plenty'"),
        (("--link", "fast"), "'fast' is no rate"),
        (("--link", "0GB/s"), "must be above 0"),
        (("--compute-scale", "0"), "must be above 0"),
        (("--compute-scale", "nan"), "must be above 0"),
        (("--slowdown", "0.5"), "0.5"),
        (("--picture", "curve.txt"), "its suffix can be"),
        (("--batch", "0"), "--batch"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trace_file, arguments, told):
    result = run(trace_file, *arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


def test_what_is_no_trace_is_refused_with_its_name_and_place(tmp_path, trace_file):
    missing = run(tmp_path / "none.json")
    assert missing.exit_code == 2
    assert "none.json" in missing.output
    cut = tmp_path / "cut.json"
    cut.write_text(trace_file.read_text()[:100])
    refused = run(cut)
    assert refused.exit_code == 2
    assert "cut.json" in refused.output
    broken = json.loads(trace_file.read_text())
    broken["version"] = 999
    other = tmp_path / "other.json"
    other.write_text(json.dumps(broken))
    assert "999" in run(other).output


def test_rates_of_zero_are_refused(tmp_path):
    link = replace(TRACE.machine.link, in_bytes_per_second=0.0)
    path = tmp_path / "zero.json"
    content = trace_json.trace_object(TRACE)
    content["machine"]["link"]["in_bytes_per_second"] = link.in_bytes_per_second
    path.write_text(json.dumps(content))
    result = run(path)
    assert result.exit_code == 2
    assert "in_bytes_per_second" in result.output
