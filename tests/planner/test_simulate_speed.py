"""The search simulates hundreds of times: how long one of them may take."""

import time
from itertools import pairwise

from swapmem.planner.plan import Swap
from swapmem.planner.simulate import Simulator
from tests.planner import synthetic


def test_five_hundred_ops_are_simulated_in_ten_milliseconds() -> None:
    trace = synthetic.resnet_like(4, 8, fraction=1.0, link=synthetic.rates(20e9))
    uses: dict[int, list[int]] = {}
    for i, op in enumerate(trace.ops):
        for block in op.touches:
            uses.setdefault(block, []).append(i)
    swaps = [
        Swap(block, before, after - 2, after)
        for block, at in uses.items()
        for before, after in pairwise(at)
        if after - before > 6 and trace.blocks[block].freed is not None
    ]
    simulator = Simulator(trace)
    taken = []
    for _ in range(10):
        begun = time.process_time()
        found = simulator.run(swaps)
        taken.append(time.process_time() - begun)
    assert len(trace.ops) > 500
    assert len(found.copies) > 200
    assert found.misses == 0
    assert min(taken) < 0.010
