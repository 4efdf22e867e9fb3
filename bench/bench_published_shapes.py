"""ResNet-50 out of core on figures of a V100, beside what others published for such shapes.

Simulated, with these assumptions, none of them measured here:

- float32, 224 x 224 images; convolutions reach 75 % of 15.7 TFLOPS, everything else moves its bytes
  at 85 % of 900 GB/s, so that an iteration in core takes what 310 images a second take;
- PCIe 3 with 16 lanes: 12 GB/s each way, 10 GB/s each way with both busy, 20 us a copy;
- 15 of 16 GiB for blocks; host memory without a limit; no memory lost to rounding;
- arrays live as long as Chainer keeps them, with `swapmem.chainer.BackwardOnce` as in the trainer:
  at 15 GiB that leaves room for a batch of 196; the shapes are 4 and 7.5 times that;
- a sum hands its gradient on to both its inputs; where two gradients meet, the convolution that
  makes the second adds the first to it, as the trainer's do where no columns are written out
  (train/models/gradient_sums.py);
- arrays of more than 256 MiB are several blocks, as on a GPU, where each moves for itself;
- the segments that may be recomputed are those of train/models/resnet50.py: what comes before the
  residual blocks, each of these, and each normalized convolution within.

What others published was measured, on their own hardware and with their own frameworks, whose
arrays do not live as long as Chainer's. Set beside it is the share of the speed in core.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.harness import Bar, Bars
from bench.resnet50_trace import Gpu, trace
from swapmem.devices import PART_BYTES
from swapmem.planner import memory, preflight
from swapmem.planner.search import make_plan
from swapmem.planner.trace import Rates
from tests.planner.parts import in_parts

V100 = Gpu(
    flops=0.75 * 15.7e12,
    memory_bytes_per_second=0.85 * 900e9,
    link=Rates(12e9, 12e9, 10e9, 10e9, latency_seconds=20e-6),
)
BUDGET_BYTES = 15 << 30


def largest_in_core() -> int:
    """The largest batch whose blocks fit the budget."""
    batch = 1
    while memory.peak(trace(batch + 1, V100)) <= BUDGET_BYTES:
        batch += 1
    return batch


@pytest.mark.parametrize(
    ("times", "published", "by"),
    [
        (4.0, 1 - 0.38, "PoocH, 50 GB on 16 GB, PCIe 3"),
        (7.5, 0.55, "nnabla, 7.5 times the batch"),
    ],
    ids=["4x", "7.5x"],
)
def test_more_of_the_speed_is_kept_than_others_published(
    benchmark: Any, bars: Bars, times: float, published: float, by: str
) -> None:
    batch = int(times * largest_in_core())
    whole = trace(batch, V100)
    iteration = in_parts(whole, PART_BYTES)
    machine = replace(iteration.machine, budget_bytes=BUDGET_BYTES)
    in_core_seconds = sum(op.seconds + op.gap_seconds for op in iteration.ops)
    plan = benchmark.pedantic(lambda: make_plan(iteration, machine), rounds=1)
    what = f"ResNet50 batch {batch} ({times:g}x), simulated on V100 figures"
    inner = sum("/" in name for name in plan.recomputed)
    largest_bytes = max(block.bytes for block in whole.blocks)
    bars.note(
        f"{what}: its largest op needs {preflight.smallest_budget(iteration) / (1 << 30):.1f} GiB, "
        f"its largest array is of {largest_bytes / (1 << 30):.1f}"
    )
    bars.note(
        f"{what}: {memory.peak(iteration) / (1 << 30):.0f} GiB in core; {in_core_seconds:.2f} s in "
        f"core, {plan.seconds:.2f} s planned, bound {plan.bound_seconds:.2f} s; "
        f"{plan.out_bytes / 1e9:.0f} GB out, {plan.in_bytes / 1e9:.0f} GB in, "
        f"{len(plan.recomputed)} segments recomputed, {inner} of them within others"
    )
    kept = in_core_seconds / plan.seconds
    bars.check(Bar(what, "of in core", [kept], [published], by, 1.0, at_least=True))
