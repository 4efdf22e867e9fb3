"""GoogLeNet and ResNet-50: any of their segments recomputed, of any level; no bit changes."""

from __future__ import annotations

import copy
import random

import chainer
import numpy
import pytest

import swapmem
import swapmem.chainer
from swapmem.chainer import segments
from swapmem.chainer.segments import recomputing
from swapmem.planner.paths import prefixes
from train.models.googlenet import GoogLeNet
from train.models.resnet50 import ResNet50

# Small images and few classes; most time goes into the parameters all the same.
INSIZES = {GoogLeNet: 64, ResNet50: 32}
BATCH, CLASSES, ITERATIONS = 2, 3, 2


class Names(chainer.FunctionHook):
    """Notes the segments of a model, of every level, in the order in which they run."""

    name = "names"

    def __init__(self):
        self.found = {}

    def forward_preprocess(self, function, in_data):
        self.found.update(dict.fromkeys(prefixes(segments.current())))


@pytest.fixture(scope="module", params=list(INSIZES), ids=lambda kind: kind.__name__)
def model(request):
    numpy.random.seed(0)
    return request.param(INSIZES[request.param], CLASSES)


def batch(model, seed):
    pick = numpy.random.default_rng(seed)
    x = pick.standard_normal((BATCH, 3, model.insize, model.insize)).astype(numpy.float32)
    return x, pick.integers(0, CLASSES, BATCH).astype(numpy.int32)


def names_of(model):
    with Names() as names, chainer.using_config("train", False), chainer.no_backprop_mode():
        model(*batch(model, 0))
    return list(names.found)


def trained(model, names):
    """The bits of parameters, statistics and generator after some iterations."""
    model = copy.deepcopy(model)
    optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(model)
    numpy.random.seed(1)
    with recomputing(names):
        for iteration in range(ITERATIONS):
            optimizer.update(model, *batch(model, iteration))
    found = {name: p.array.tobytes() for name, p in model.namedparams()}
    for path, link in model.namedlinks():
        for name in link._persistent:
            found[f"{path}/{name}"] = numpy.asarray(getattr(link, name)).tobytes()
    found["drawn"] = numpy.random.bytes(8)
    return found


def some(names, seed):
    """A set of segments chosen by a seed."""
    print("seed", seed)
    pick = random.Random(seed)
    return {name for name in names if pick.random() < 0.5}


def test_segments_are_the_modules_and_blocks(model):
    names = [name for name in names_of(model) if "/" not in name]
    assert len(names) == {GoogLeNet: 13, ResNet50: 17}[type(model)]
    assert names[0] == "conv1"
    assert names[-1] == {GoogLeNet: "inc5b", ResNet50: "stage5.2"}[type(model)]
    within = {name for name in names_of(model) if name.startswith("stage2.0/")}
    parts = {f"stage2.0/{part}" for part in ("down", "middle", "up", "projection")}
    assert within == (parts if isinstance(model, ResNet50) else set())


def test_any_segments_can_be_recomputed(model):
    expected = trained(model, ())
    assert len(expected) > 100
    names = names_of(model)
    inner = {name for name in names if "/" in name}
    for chosen in (set(names), inner, some(names, seed=3)):
        assert trained(model, chosen) == expected, chosen


def managed(model, names, spill_dir, budget, paranoid=False):
    with swapmem.Manager(
        device="host", device_memory=budget, spill_dir=spill_dir, paranoid=paranoid
    ) as memory:
        return trained(model, names), memory


@pytest.fixture(scope="module")
def stored(model, tmp_path_factory):
    """What training in core leaves behind, and its manager."""
    return managed(model, (), tmp_path_factory.mktemp("spill"), "2GiB")


def test_any_segments_can_be_recomputed_in_a_small_budget(model, stored, tmp_path):
    expected, free = stored
    peak, largest_op = (free.stats()[key] for key in ("peak_live_bytes", "largest_op_bytes"))
    budget = max(peak // 3, largest_op * 9 // 8)
    assert budget < peak / 2
    names = names_of(model)
    for chosen in (set(names), some(names, seed=4)):
        found, memory = managed(model, chosen, tmp_path, budget)
        assert found == expected, chosen
        assert memory.stats()["swap_in_bytes"] > 0
        assert memory.stats()["peak_charged_bytes"] <= budget
        assert [fault for fault in memory.faults() if fault.op] == []


def test_every_touch_is_announced_in_paranoid_mode(model, stored, tmp_path):
    found, memory = managed(model, names_of(model), tmp_path, "2GiB", paranoid=True)
    assert found == stored[0]
    assert swapmem.chainer.undeclared(memory) == []
