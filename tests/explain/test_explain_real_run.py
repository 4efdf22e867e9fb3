"""A real run of the host device, from the manager to the explanation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chainer import Chain, ChainList, functions, links, optimizers

import swapmem
from swapmem import plot
from swapmem.explain import html_page, perfetto, text
from swapmem.explain.figures import figures
from swapmem.explain.measured import measured
from swapmem.explain.run_file import Run, load_run

MIB = 1 << 20
ITERATIONS = 6


class Layers(Chain):
    """Linear layers, whose weights and activations are of about the same size."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.layers = ChainList(*(links.Linear(512, 512) for _ in range(10)))

    def forward(self, x: object, t: object) -> object:
        for layer in self.layers:
            x = functions.relu(layer(x))
        return functions.softmax_cross_entropy(x, t)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("real")
    images = np.random.default_rng(1).random((512, 512), np.float32)
    labels = np.zeros(512, np.int32)
    with swapmem.Manager(device="host", device_memory="24MiB", spill_dir=directory) as memory:
        model = Layers()
        optimizer = optimizers.MomentumSGD(lr=0.01).setup(model)
        for _ in range(ITERATIONS):
            optimizer.update(model, images, labels)
        memory.save_run(directory / "run.json.gz", model="layers")
    return load_run(directory / "run.json.gz")


def test_it_was_planned_and_every_op_is_one_of_the_trace(real: Run) -> None:
    assert real.plan is not None, text.explanation(real, measured(real))
    assert real.trace is not None
    seen = measured(real)
    assert [op.index for op in seen.ops] == list(range(len(real.trace.ops)))
    assert {op.phase for op in seen.ops} == {"forward", "backward", "update"}


def test_every_copy_is_of_a_block_of_the_trace(real: Run) -> None:
    seen = measured(real)
    copies = (*seen.outs, *seen.ins)
    assert copies
    assert [copy.name for copy in copies if copy.block is None] == []


def test_bytes_and_stalls_add_up_to_the_managers_own(real: Run) -> None:
    marks = [e.time_seconds for e in real.events if e.kind == "iteration"]
    for kind, lane in (("swap_out", "outs"), ("swap_in", "ins")):
        total = 0
        for number in range(len(plot.iterations(real.events))):
            seen = measured(real, number)
            total += seen.copied_bytes(getattr(seen, lane))
        inside = [
            e for e in real.events if e.kind == kind and marks[0] < e.time_seconds <= marks[-1]
        ]
        assert total == sum(e.bytes for e in inside)
        assert total <= real.stats[f"{kind}_bytes"]
    stalls = sum(
        stall.seconds
        for number in range(len(plot.iterations(real.events)))
        for stall in measured(real, number).stalls
    )
    assert stalls <= real.stats["stall_seconds"] + real.stats["fault_seconds"] + 1e-3


def test_memory_stays_below_the_budget_and_swapped_out_bytes_above_nothing(real: Run) -> None:
    found = figures(real, measured(real))
    assert found.budget_bytes == 24 * MIB
    assert 0 < found.peak_bytes <= 24 * MIB
    assert 0 < found.swapped_out_peak_bytes <= real.stats["peak_live_bytes"]


def test_everything_can_be_written_of_it(real: Run, tmp_path: Path) -> None:
    html_page.write(real, tmp_path / "run.html")
    perfetto.write(real, tmp_path / "run.json")
    said = text.explanation(real, measured(real))
    assert said.startswith("model layers; host, one iteration, measured")
    assert "swapped:" in said
    unplanned = replace(real, plan=None, simulation=None)
    assert "swapped out on demand" in text.explanation(unplanned, measured(unplanned))
