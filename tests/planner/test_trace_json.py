"""Traces as files: what is written is read again, and what is wrong is named."""

import copy
import dataclasses
import gzip
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from swapmem.planner.errors import TraceError
from swapmem.planner.plan import Plan, Swap
from swapmem.planner.trace import Block, Change, Machine, Op, Rates, Trace
from swapmem.planner.trace_json import from_object, load, save, trace_object
from tests.planner import synthetic

RATES = synthetic.rates(2e9, 1e-4, 1.05)


def plan_for(trace: Trace, *swaps: Swap, recomputed: tuple[str, ...] = ()) -> Plan:
    reasons = ("kept: small",) * len(trace.blocks)
    return Plan(swaps, recomputed, reasons, 1.5, 1.0, 1.2, 300, 200, 200)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_saved_is_loaded(tmp_path: Path, name: str, seed: int) -> None:
    trace = synthetic.random_trace(seed)
    save(trace, tmp_path / name)
    assert load(tmp_path / name) == (trace, None)


def test_a_plan_is_loaded_with_its_trace(tmp_path: Path) -> None:
    trace = synthetic.resnet_like(2, 1)
    block = trace.ops[3].touches[0]
    last = len(trace.ops) - 1
    plan = plan_for(trace, Swap(block, -1, None, None), Swap(block, 3, last, last + 1))
    save(trace, tmp_path / "a.json", plan)
    assert load(tmp_path / "a.json") == (trace, plan)


def test_a_plan_that_recomputes_has_swaps_of_the_trace_as_it_then_is(tmp_path: Path) -> None:
    trace = synthetic.resnet_like(2, 2)
    name = "stage1.1"
    plan = plan_for(trace, Swap(0, 0, len(trace.ops), len(trace.ops)), recomputed=(name,))
    save(trace, tmp_path / "a.json", plan)
    assert load(tmp_path / "a.json") == (trace, plan)


def test_a_machine_with_a_tier_behind_its_store_is_loaded(tmp_path: Path) -> None:
    trace = synthetic.chain(4)
    machine = Machine(1 << 30, RATES, store_bytes=1 << 20, behind=RATES, workers=4)
    changed = Trace(**{**vars(trace), "machine": machine})
    save(changed, tmp_path / "a.json")
    assert load(tmp_path / "a.json")[0].machine == machine


def test_a_field_that_is_not_known_is_no_obstacle() -> None:
    trace = synthetic.chain(4)
    assert from_object({**trace_object(trace), "comment": "on my machine"}) == (trace, None)


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    os.mkdir(tmp_path / f".a.json.{os.getpid()}")  # the draft cannot be created
    with pytest.raises(OSError):  # noqa: PT011  - a directory is in the way, in the system's words
        save(synthetic.chain(4), path)
    assert path.read_text() == "before"


# --- what is no trace


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    save(synthetic.chain(6), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TraceError, match="truncated") as caught:
        load(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"hello", b"[1, 2", b"{}", b"[]", b"3"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"no JSON|no trace"):
        load(path)


def test_a_name_that_promises_compression_must_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_text(json.dumps(trace_object(synthetic.chain(4))))
    with pytest.raises(TraceError, match="not compressed by gzip"):
        load(path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    load(path)


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "a.json")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_with_both_numbers(version: Any) -> None:
    content = {**trace_object(synthetic.chain(4)), "version": version}
    with pytest.raises(TraceError, match="this swapmem reads version 1") as caught:
        from_object(content, "a.json")
    assert repr(version) in str(caught.value)


# --- what somebody changed by hand


def edited(place: str, value: Any) -> dict[str, Any]:
    """A trace in which what stands at "ops.3.seconds" is another value; ... takes it out."""
    content = json.loads(json.dumps(trace_object(synthetic.resnet_like(2, 1, link=RATES))))
    content = copy.deepcopy(content)
    *way, last = (int(step) if step.isdigit() else step for step in place.split("."))
    target = content
    for step in way:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return content


CHANGED = [
    ("device", "gpu", "device"),
    ("device", "cuda:", "device"),
    ("tail_seconds", -1.0, "tail_seconds"),
    ("batch.0", -5, "batch[0]"),
    ("ops", [], "ops"),
    ("ops", ..., ""),
    ("ops.3.seconds", -0.1, "ops[3].seconds"),
    ("ops.3.seconds", "fast", "ops[3].seconds"),
    ("ops.3.seconds", None, "ops[3].seconds"),
    ("ops.3.gap_seconds", float("nan"), "ops[3].gap_seconds"),
    ("ops.3.gap_seconds", float("inf"), "ops[3].gap_seconds"),
    ("ops.3.phase", "sideways", "ops[3].phase"),
    ("ops.3.touches", [0, 99999], "ops[3].touches[1]"),
    ("ops.3.touches", [-1], "ops[3].touches[0]"),
    ("ops.3.touches", [0.5], "ops[3].touches[0]"),
    ("ops.0.touches", [40], "ops[0].touches[0]"),  # a block that is born later
    ("ops.3.writes", [0], "ops[3].writes"),  # not among its touches
    ("blocks.0.bytes", -1, "blocks[0].bytes"),
    ("blocks.0.bytes", "64MiB", "blocks[0].bytes"),
    ("blocks.0.bytes", ..., "blocks[0]"),
    ("blocks.40.born", 99999, "blocks[40].born"),
    ("blocks.40.born", -1, "blocks[40].born"),
    ("blocks.40.freed", 99999, "blocks[40].freed"),
    ("blocks.40.freed", 0, "blocks[40].freed"),
    ("blocks.40.carried_from", 99999, "blocks[40].carried_from"),
    ("blocks.40.carried_from", 0, "blocks[40].carried_from"),
    ("changes.5.block", 99999, "changes[5].block"),
    ("changes.5.slot", 99999, "changes[5].slot"),
    ("changes.20.allocates", 1, "changes[20].allocates"),
    ("machine.budget_bytes", 0, "machine.budget_bytes"),
    ("machine.store_bytes", -1, "machine.store_bytes"),
    ("machine.workers", 0, "machine.workers"),
    ("machine.link.out_bytes_per_second", 0.0, "machine.link.out_bytes_per_second"),
    ("machine.link.in_bytes_per_second", 0, "machine.link.in_bytes_per_second"),
    ("machine.link.duplex_out_bytes_per_second", -3.0, "machine.link.duplex_out_bytes_per_second"),
    ("machine.link.duplex_in_bytes_per_second", None, "machine.link.duplex_in_bytes_per_second"),
    ("machine.link.latency_seconds", -1.0, "machine.link.latency_seconds"),
    ("machine.link.slowdown", 0.5, "machine.link.slowdown"),
    ("machine.link", None, "machine.link"),
]


@pytest.mark.parametrize(("place", "value", "named"), CHANGED, ids=lambda v: str(v)[:40])
def test_a_trace_edited_by_hand_is_refused_at_the_place(place: str, value: Any, named: str) -> None:
    with pytest.raises(TraceError) as caught:
        from_object(edited(place, value), "a.json")
    assert caught.value.place == named, caught.value
    assert str(caught.value).startswith(f"a.json: {named}: " if named else "a.json: ")


def test_a_block_freed_before_it_is_born_is_refused() -> None:
    content = edited("batch", [])
    block = next(i for i, b in enumerate(content["blocks"]) if b["born"] and b["freed"])
    content["blocks"][block]["freed"] = content["blocks"][block]["born"]
    slot = content["blocks"][block]["born"]
    own = [c for c in content["changes"] if c["block"] == block]
    others = [c for c in content["changes"] if c["block"] != block]
    own[1]["slot"] = slot
    at = next(i for i, c in enumerate(others) if c["slot"] >= slot)
    content["changes"] = [*others[:at], own[1], own[0], *others[at:]]
    with pytest.raises(TraceError, match="freed before it is born"):
        from_object(content)


@pytest.mark.parametrize("kind", [True, False], ids=["allocation", "free"])
def test_a_change_that_is_missing_or_there_twice_is_refused(kind: bool) -> None:
    content = edited("batch", [])
    at = next(i for i, c in enumerate(content["changes"]) if c["allocates"] == kind)
    once = content["changes"].pop(at)
    with pytest.raises(TraceError, match="not in changes|freed before it is born"):
        from_object(content)
    content["changes"][at:at] = [once, once]
    with pytest.raises(TraceError, match="a second time"):
        from_object(content)


LAST = len(synthetic.chain(4).ops) - 1
WRONG_SWAPS = [
    (Swap(99999, 0, 2, 3), "there is no block 99999"),
    (Swap(-1, 0, 2, 3), "there is no block -1"),
    (Swap(0, LAST + 1, None, None), "out_after"),
    (Swap(0, -2, None, None), "out_after"),
    (Swap(0, 3, 3, 3), "do not follow each other"),
    (Swap(0, 3, 5, 4), "do not follow each other"),
    (Swap(0, 3, 5, 2 * LAST + 2), "do not follow each other"),
    (Swap(0, 3, 5, None), "both be None"),
]


@pytest.mark.parametrize(("swap", "why"), WRONG_SWAPS, ids=[why for _, why in WRONG_SWAPS])
def test_a_swap_that_no_plan_for_this_trace_has_is_refused(swap: Swap, why: str) -> None:
    trace = synthetic.chain(4)
    with pytest.raises(TraceError, match=why) as caught:
        from_object(trace_object(trace, plan_for(trace, swap)))
    assert caught.value.place == "plan.swaps[0]"


def test_a_plan_for_another_trace_is_refused() -> None:
    trace, other = synthetic.chain(4), synthetic.chain(5)
    with pytest.raises(TraceError, match="reasons"):
        from_object(trace_object(trace, plan_for(other)))
    with pytest.raises(TraceError, match="no segment 'stage9'"):
        from_object(trace_object(trace, plan_for(trace, recomputed=("stage9",))))


def test_a_plan_that_swaps_what_must_stay_is_refused() -> None:
    content = edited("blocks.0.eligible", False)
    trace, _ = from_object(content)
    content["plan"] = trace_object(trace, plan_for(trace, Swap(0, 0, 5, 5)))["plan"]
    with pytest.raises(TraceError, match="may not be swapped out"):
        from_object(content)


def test_the_error_survives_a_pickle() -> None:
    error = TraceError("wrong", "a.json", "ops[3]")
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.path, again.place) == ("wrong", "a.json", "ops[3]")


# --- the document


@pytest.mark.parametrize("kind", [Trace, Op, Block, Change, Machine, Rates, Plan, Swap])
def test_the_schema_is_documented_to_the_last_field(kind: type) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "trace.md").read_text()
    words = set(re.findall(r"`(\w+)`", text))
    assert {field.name for field in dataclasses.fields(kind)} <= words


def test_a_file_has_the_fields_that_the_document_names() -> None:
    content = trace_object(synthetic.chain(4))
    assert {"format", "version", "plan"} <= content.keys()
    assert set(content["ops"][0]) == {field.name for field in dataclasses.fields(Op)}
