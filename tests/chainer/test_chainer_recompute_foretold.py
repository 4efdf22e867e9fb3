"""What the planner foretells of an iteration with segments recomputed is what is then recorded."""

from __future__ import annotations

import unittest.mock

import chainer
import numpy
import pytest

import swapmem
import swapmem.chainer
from swapmem.chainer import hooks
from swapmem.chainer.segments import recomputing, segment
from swapmem.planner import record
from swapmem.planner.memory import profile
from swapmem.planner.paths import outermost
from swapmem.planner.recompute import candidates, with_recompute
from swapmem.planner.repeated import repeated_segments
from swapmem.planner.session import Session
from swapmem.planner.trace import Machine, Rates, Trace

F = chainer.functions
L = chainer.links

CHANNELS, SIDE, BATCH = 16, 32, 4
UNITS = 4


class Unit(chainer.Chain):
    """Convolution, normalization and ReLU, twice, parts of their own, and a shortcut; dropout."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.a = L.Convolution2D(CHANNELS, CHANNELS, 3, pad=1)
            self.b = L.Convolution2D(CHANNELS, CHANNELS, 1)
            self.norm_a = L.BatchNormalization(CHANNELS)
            self.norm_b = L.BatchNormalization(CHANNELS)

    def forward(self, x):
        h = segment("a", lambda h: F.relu(self.norm_a(self.a(h))), x)
        h = F.relu(segment("b", lambda h: self.norm_b(self.b(h)), h) + x)
        return F.max_pooling_2d(F.dropout(h), 3, 1, 1)


class Units(chainer.ChainList):
    """A stem, units under names, and a classifier."""

    def __init__(self):
        super().__init__(
            L.Convolution2D(3, CHANNELS, 3, pad=1),
            *(Unit() for _ in range(UNITS)),
            L.Linear(CHANNELS, 10),
        )

    def forward(self, x, t):
        stem, *units, classifier = self
        h = F.relu(stem(x))
        for index, unit in enumerate(units):
            h = segment(f"unit.{index}", unit, h)
        return F.softmax_cross_entropy(classifier(F.mean(h, axis=(2, 3))), t)


class Recorder(Session):
    """Reads what each iteration was, and plans nothing."""

    def __init__(self, engine, device, budget_bytes, *_, **__):
        super().__init__(engine, device, budget_bytes, mode="none")
        self.engine = engine
        self.machine = Machine(budget_bytes, Rates(1e9, 1e9, 1e9, 1e9))
        self.survivors = {}
        self.names = []
        traces.clear()

    def begin_iteration(self, trains):
        super().begin_iteration(trains)
        if self.names:
            found = record.read(
                self.engine.last_iteration(), self.machine, "host", self.survivors, self.names
            )
            self.survivors = found.survivors()
            traces.append(found.trace)
        self.names = []

    def op_begins(self, segment):
        super().op_begins(segment)
        self.names.append(segment)


traces: list[Trace] = []


def recorded(names, path):
    """The trace of the fourth iteration with these segments recomputed."""
    pick = numpy.random.default_rng(0)
    with (
        unittest.mock.patch.object(hooks, "Session", Recorder),
        swapmem.Manager(device="host", device_memory="1GiB", spill_dir=path),
    ):
        model = Units()
        optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(model)
        with recomputing(names):
            for _ in range(5):
                x = pick.standard_normal((BATCH, 3, SIDE, SIDE)).astype(numpy.float32)
                optimizer.update(model, x, pick.integers(0, 10, BATCH).astype(numpy.int32))
    return traces[-1]


def described(trace):
    return [(op.name, op.phase, op.segment) for op in trace.ops]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return recorded((), tmp_path_factory.mktemp("stored"))


def test_every_unit_and_each_part_of_it_is_a_candidate(stored):
    found = candidates(stored)
    assert [part.name for part in found] == [
        f"unit.{index}{part}" for index in range(UNITS) for part in ("", "/a", "/b")
    ]
    array = CHANNELS * SIDE * SIDE * BATCH * 4
    for part in found:
        # Of normalizations, ReLUs and dropout, and where pooling found its maxima.
        assert part.bytes >= array * (1 if "/" in part.name else 6)


@pytest.mark.parametrize(
    "names",
    [
        ("unit.1",),
        ("unit.0", "unit.3"),
        [f"unit.{i}" for i in range(UNITS)],
        ("unit.1/a",),
        ("unit.0/a", "unit.0/b", "unit.1", "unit.2/b"),
        ("unit.1", "unit.1/a"),
    ],
    ids=",".join,
)
def test_what_is_foretold_is_what_runs(stored, names, tmp_path):
    foretold, seen = with_recompute(stored, names), recorded(names, tmp_path)
    assert described(foretold) == described(seen)
    assert len(foretold.ops) > len(stored.ops)
    assert {again.name for again in repeated_segments(seen)} == outermost(names)
    assert [part.name for part in candidates(seen)] == [part.name for part in candidates(foretold)]
    expected, found = profile(foretold), profile(seen)
    largest = max(range(len(found)), key=lambda slot: abs(found[slot] - expected[slot]))
    assert found[largest] == expected[largest], (largest, expected[largest], found[largest])
