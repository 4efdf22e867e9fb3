"""What managers are told of segments that run again: ordinary operations, in their place."""

from __future__ import annotations

import chainer
import numpy
import pytest
from chainer_fakes import address
from segmented import images
from test_chainer_training import Net, batches

import swapmem
import swapmem.chainer
from swapmem import _core
from swapmem.chainer.hooks import OpHook
from swapmem.chainer.segments import recomputing, segment

F = chainer.functions


def part(x):
    return F.tanh(F.cos(F.sin(F.exp(x))))


def segmented_loss(x):
    with recomputing({"part"}):
        return F.sum(segment("part", part, F.identity(x)))


def test_what_runs_again_runs_before_the_backward_op_that_needs_it(manager, engine):
    with OpHook(manager):
        segmented_loss(chainer.Variable(images())).backward()
    names = engine.names()
    begin, end = names.index("-Sum") + 1, names.index("+cos backward")
    assert names[begin:end] == [
        "+Sum backward",
        "+BroadcastTo",
        "-BroadcastTo",
        "-Sum backward",
        "+Tanh backward",
        "+TanhGrad",
        "-TanhGrad",
        "-Tanh backward",
        "+exp",
        "-exp",
        "+sin",
        "-sin",
    ]
    assert engine.open == []


class Reads(chainer.FunctionHook):
    """Where the arrays are that forward operations read."""

    name = "reads"

    def __init__(self):
        self.found = {}

    def forward_preprocess(self, function, in_data):
        self.found[function.label] = address(in_data[0])


def test_backward_ops_announce_what_came_back(manager, engine):
    with OpHook(manager):
        loss = segmented_loss(chainer.Variable(images()))
        with Reads() as reads:
            loss.backward()
    # Sine kept what exp made, and exp kept it too.
    assert reads.found["sin"] in engine.announced("sin backward")
    assert reads.found["sin"] in engine.announced("exp backward")


def test_what_a_segment_reads_is_fetched_ahead_of_it_and_kept_until_then(manager, engine):
    x = chainer.Variable(images())
    with OpHook(manager):
        h = F.identity(x)
        read = address(h.array)
        with recomputing({"part"}):
            loss = F.sum(segment("part", part, h))
        del h
        engine.calls.clear()
        loss.backward()
    fetched = next(call for call in engine.calls if call[0] == "prefetch")[1]
    assert read in fetched
    given_up = [name for name, retired in engine.named("end") if read in retired]
    # The first operation of the segment is the last that may have it run again.
    assert given_up == ["exp backward"]


def test_running_again_begins_no_iteration(manager, engine):
    with OpHook(manager):
        for _ in range(3):
            segmented_loss(chainer.Variable(images())).backward()
    assert engine.names().count("iteration") == 2
    following = [
        after
        for mark, after in zip(engine.names(), engine.names()[1:], strict=False)
        if mark == "iteration"
    ]
    assert following == ["+Identity"] * 2


class SegmentedNet(Net):
    """The network that the other programs train, in two segments."""

    def features(self, x):
        return segment("body", self.body, segment("stem", self.stem, x))


def train(names):
    numpy.random.seed(0)
    model = SegmentedNet()
    optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(model)
    with recomputing(names):
        for x, t in batches():
            optimizer.update(model, x.copy(), t)
    return {name: p.array.tobytes() for name, p in model.namedparams()} | {
        "statistics": model.b2.avg_var.tobytes(),
        "drawn": numpy.random.bytes(4),
    }


@pytest.mark.parametrize("names", [("stem",), ("body",), ("stem", "body")], ids="+".join)
def test_a_tight_budget_and_recomputing_change_no_bit_together(names, tmp_path):
    outcomes, managers = [], []
    for chosen, budget in (((), "1GiB"), (names, "1GiB"), (names, "4MiB")):
        with swapmem.Manager(device="host", device_memory=budget, spill_dir=tmp_path) as memory:
            outcomes.append(train(chosen))
        managers.append(memory)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    stored, recomputed, tight = (memory.stats() for memory in managers)
    assert tight["swap_in_bytes"] > 0 == recomputed["swap_in_bytes"]
    assert [fault for fault in managers[2].faults() if fault.op] == []
    if names != {"stem"}:
        assert recomputed["peak_live_bytes"] < stored["peak_live_bytes"]


@pytest.mark.parametrize("names", [("stem",), ("body",), ("stem", "body")], ids="+".join)
def test_every_touch_of_a_segment_that_runs_again_is_announced(names, tmp_path):
    with swapmem.Manager(
        device="host", device_memory="1GiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        train(names)
    assert memory.stats()["swap_in_bytes"] > 0
    assert swapmem.chainer.undeclared(memory) == []


@pytest.mark.parametrize("names", [("stem",), ("stem", "body")], ids="+".join)
def test_segments_run_again_where_no_touch_can_be_served(names, tmp_path, monkeypatch):
    with swapmem.Manager(device="host", device_memory="1GiB", spill_dir=tmp_path):
        expected = train(())
    monkeypatch.setattr(_core, "host_engine", _core.rehearsal_engine)
    with swapmem.Manager(
        device="host", device_memory="1GiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        found = train(names)
    assert found == expected
    # Not even one outside every operation: on a GPU it would end all work.
    assert memory.faults() == []
    assert memory.stats()["swap_in_bytes"] > 0


def test_what_a_segment_reads_may_leave_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(_core, "host_engine", _core.rehearsal_engine)
    x = chainer.Variable(numpy.ones((64, 1024), numpy.float32))
    with swapmem.Manager(
        device="host", device_memory="64MiB", spill_dir=tmp_path, paranoid=True
    ) as memory:
        h = F.exp(x)
        blocks = [memory.block(h.array).id]
        with recomputing({"part"}):
            loss = F.sum(segment("part", part, h))
        del h
        F.identity(x)
        out = {event.block for event in memory.trace() if event.kind == "swap_out"}
        loss.backward()
    assert set(blocks) <= out
    assert memory.faults() == []
    numpy.testing.assert_array_equal(x.grad, _stored_gradient(x.array))


def _stored_gradient(array):
    x = chainer.Variable(array)
    F.sum(part(F.exp(x))).backward()
    return x.grad
