"""Traces for Perfetto: what its reader asks of the format, and the run's own figures."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swapmem.explain import perfetto
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run
from swapmem.files import read_text
from tests.explain import made_up_runs
from tests.planner import synthetic

Event = dict[str, Any]


@pytest.fixture(scope="module")
def events(run: Run) -> list[Event]:
    return perfetto.events(run)


def lane(events: list[Event], process: str, name: str) -> list[Event]:
    """The slices of a lane, all its rows."""
    names: dict[tuple[int, int], str] = {}
    processes: dict[int, str] = {}
    for event in events:
        if event["name"] == "thread_name":
            names[event["pid"], event["tid"]] = event["args"]["name"]
        elif event["name"] == "process_name":
            processes[event["pid"]] = event["args"]["name"]
    return [
        event
        for event in events
        if event["ph"] == "X"
        and processes[event["pid"]].startswith(process)
        and names[event["pid"], event["tid"]].startswith(name)
    ]


def test_the_file_is_json_that_the_formats_readers_take(run: Run, tmp_path: Path) -> None:
    for name in ("trace.json", "trace.json.gz"):
        perfetto.write(run, tmp_path / name)
        content = json.loads(read_text(tmp_path / name))
        assert content["traceEvents"] == json.loads(json.dumps(perfetto.events(run)))
    for event in content["traceEvents"]:
        assert event["ph"] in "XCM"
        assert isinstance(event["pid"], int)
        assert isinstance(event["name"], str)
        if event["ph"] != "M":
            assert event["ts"] >= -1e7
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert isinstance(event["tid"], int)


def straddling(run: Run) -> Run:
    """The run as if its iterations had begun while something was copied."""
    copies = [copy for copy in measured(run).outs if copy.end_seconds - copy.begin_seconds > 0.01]
    by = (copies[3].begin_seconds + copies[3].end_seconds) / 2
    moved = [
        event._replace(time_seconds=event.time_seconds + by) if event.kind == "iteration" else event
        for event in run.events
    ]
    return replace(run, events=tuple(sorted(moved, key=lambda event: event.time_seconds)))


def with_workers(workers: int) -> Run:
    """A run in which several copies go on at the same time."""
    trace = synthetic.resnet_like(fraction=0.5, link=synthetic.rates(1e9))
    machine = replace(trace.machine, workers=workers)
    return made_up_runs.planned_run(replace(trace, machine=machine))


def test_slices_of_one_thread_never_cross(run: Run) -> None:
    several = perfetto.events(with_workers(3))
    assert len({event["tid"] for event in lane(several, "measured", "copies out")}) > 1
    for events in (perfetto.events(run), several, perfetto.events(straddling(run))):
        check_threads(events)


def check_threads(events: list[Event]) -> None:
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            span = (event["ts"], event["ts"] + event["dur"])
            threads[event["pid"], event["tid"]].append(span)
    for spans in threads.values():
        spans.sort()
        for (_, end), (begin, _) in itertools.pairwise(spans):
            assert begin >= end - 0.2  # microseconds: what rounding leaves


def test_every_thread_and_process_has_a_name(events: list[Event]) -> None:
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert named == {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"}
    assert {e["pid"] for e in events if e["name"] == "process_name"} == {1, 2}


def test_all_iterations_are_in_it_and_each_copy_once(run: Run, events: list[Event]) -> None:
    assert [e["name"] for e in lane(events, "measured", "iterations")] == [
        "iteration 0",
        "iteration 1",
        "iteration 2",
    ]
    copied = sum(e["args"]["bytes"] for e in lane(events, "measured", "copies out"))
    assert copied == sum(e.bytes for e in run.events if e.kind == "swap_out")
    cut = straddling(run)
    marks = [event.time_seconds for event in cut.events if event.kind == "iteration"]
    outs = [event for event in cut.events if event.kind == "swap_out"]
    assert any(e.time_seconds - e.seconds < marks[1] < e.time_seconds for e in outs)
    ended = [event for event in outs if marks[0] < event.time_seconds <= marks[-1]]
    assert len(lane(perfetto.events(cut), "measured", "copies out")) == len(ended)
    assert run.trace is not None
    assert len(lane(events, "measured", "compute")) == 3 * len(run.trace.ops)
    assert len(lane(events, "planned", "compute")) == len(run.trace.ops)


def test_stalls_say_why(run: Run, events: list[Event]) -> None:
    seen = measured(run)
    slices = lane(events, "measured", "stalls")
    assert len(slices) == 3 * len(seen.stalls)
    told = {(e["args"]["cause"], e["args"]["why"]) for e in slices}
    assert {(stall.cause, stall.why) for stall in seen.stalls} <= told


def test_counters_follow_the_memory_of_each_tier_and_the_budget(
    run: Run, events: list[Event]
) -> None:
    counters: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event["ph"] == "C" and event["pid"] == 1:
            counters[event["name"]].append(event["args"]["bytes"])
    seen = measured(run)
    device, file = seen.tiers
    assert set(counters) == {"memory: device", "memory: file", "memory: budget"}
    assert max(counters["memory: device"]) == device.peak_bytes
    assert max(counters["memory: file"]) == file.peak_bytes
    assert set(counters["memory: budget"]) == {device.limit_bytes}


def test_the_plan_is_drawn_at_the_last_iteration(events: list[Event]) -> None:
    last = lane(events, "measured", "iterations")[-1]
    first_op = lane(events, "planned", "compute")[0]
    assert first_op["ts"] == pytest.approx(last["ts"], abs=last["dur"] / 100)


def test_a_run_of_events_alone_and_one_of_a_plan_alone_can_be_shown(run: Run) -> None:
    measured_alone = perfetto.events(replace(run, simulation=None))
    assert {event["pid"] for event in measured_alone} == {1}
    assert {event["pid"] for event in perfetto.events(replace(run, events=()))} == {2}
    with pytest.raises(ValueError, match="neither events nor a simulation"):
        perfetto.events(Run((), {}))
