"""Traces so small that every figure of a simulation can be worked out by hand.

All blocks have 100 bytes unless said otherwise and the link copies 100 bytes a second each way.
"""

from swapmem.planner.simulate import Simulation
from swapmem.planner.trace import Machine, Rates, Trace
from tests.planner.synthetic import Recorder, rates

LINK = rates(100.0)


def four_ops(budget_bytes: int, link: Rates = LINK) -> Trace:
    """A makes x; B makes y; C makes z, and y goes; D reads x."""
    note = Recorder()
    for name, seconds in (("A", 1.0), ("B", 3.0), ("C", 2.0)):
        note.begin()
        note.allocate(100, name)
        note.end(name, "forward", seconds, ())
    note.free(1)
    note.begin()
    note.end("D", "backward", 1.0, [0])
    note.free(0)
    note.free(2)
    return note.trace(Machine(budget_bytes, link))


def lanes_of(found: Simulation) -> list[tuple[int, str, float, float, float]]:
    return [(c.block, c.direction, *(round(t, 9) for t in c[2:5])) for c in found.copies]
