"""Iterations on a GPU that is not there.

tests/cpp/virtual_training.cpp plays them on the engine, the CUDA device and the pinned store, over
the fake driver in virtual time. What is modelled: every op is a kernel that takes the seconds of
the trace; the link copies at the machine's rates, each way by itself; mapping and unmapping a
handle of memory takes the driver `COSTS`, one call at a time, among which are those that queue
copies; these, and threads that wake late, take `DELAYS`. What the engine computes and the launches
of kernels take no time: the host is as far ahead of the device as memory lets it. With each touch a
kernel checks some bytes of the block, and writes them anew.

Traces are made smaller, in bytes and in bytes a second alike, and so are the units in which the
device maps and the engine copies. So as much happens as on the large machine, at the same times,
and it fits in a test's memory.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swapmem import _core
from swapmem.devices import PART_BYTES
from swapmem.planner import memory
from swapmem.planner.execute import instructions
from swapmem.planner.plan import Plan
from swapmem.planner.recompute import with_recompute
from swapmem.planner.record import Birth, Recorded
from swapmem.planner.trace import Machine, Rates, Trace
from tests import fake_cuda
from tests.planner.parts import in_parts, part_of

#: Seconds for each handle: to create it, to map it, to make it accessible, to unmap, to release it.
COSTS = (40e-6, 10e-6, 30e-6, 40e-6, 40e-6)
#: Seconds that giving a copy to a stream takes, and until a thread goes on that slept meanwhile.
DELAYS = (5e-6, 50e-6)
GRANULARITY_BYTES = 2 << 20
FRAME_BYTES = 16 << 20
# Smaller arrays are no blocks: they share chunks (swapmem/cupy.py).
_LEAST_BYTES = 512 << 10
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Iteration:
    """One iteration as it went. All times are the device's.

    Attributes:
        seconds: from the end of the last kernel of the iteration before to that of its own.
        host_stall_seconds: how long the host waited, for memory and for copies to be queued.
        out_bytes: copied out meanwhile.
        in_bytes: copied in meanwhile.
        misses: whether it did not run as planned.
        unplanned: evictions that no plan asked for.
        op_begin_seconds: when each op began, from the iteration's begin.
        op_end_seconds: when each op ended.
    """

    seconds: float
    host_stall_seconds: float
    out_bytes: int
    in_bytes: int
    misses: int
    unplanned: int
    op_begin_seconds: tuple[float, ...]
    op_end_seconds: tuple[float, ...]


def on_gpu(trace: Trace, link: Rates, smaller: int = 1) -> Trace:
    """The trace as a GPU's engine would record it, `smaller` times smaller.

    Args:
        trace: one iteration, with the true bytes of its arrays.
        link: of the GPU, in true bytes.
        smaller: by how much all bytes are divided; a power of two, 256 at most.

    Returns:
        The trace with the bytes that its blocks take of a budget, on a machine that holds all of
        it. Small arrays are left out, large ones are several blocks, and each op is taken to write
        whatever it touches.
    """
    wanted = [b for b, block in enumerate(trace.blocks) if block.bytes >= _LEAST_BYTES]
    number = {block: index for index, block in enumerate(wanted)}
    blocks = tuple(
        replace(
            block,
            bytes=block.bytes // smaller,
            carried_from=number.get(-1 if block.carried_from is None else block.carried_from),
        )
        for block in (trace.blocks[b] for b in wanted)
    )
    ops = []
    for op in trace.ops:
        touches = tuple(number[b] for b in op.touches if b in number)
        ops.append(replace(op, touches=touches, writes=touches))
    changes = tuple(replace(c, block=number[c.block]) for c in trace.changes if c.block in number)
    found = replace(trace, device="cuda:0", ops=tuple(ops), blocks=blocks, changes=changes)
    found = in_parts(found, PART_BYTES // smaller)
    unit_bytes = GRANULARITY_BYTES // smaller
    blocks = tuple(replace(b, bytes=_capacity(b.bytes, unit_bytes)) for b in found.blocks)
    found = replace(found, blocks=blocks)
    return replace(found, machine=Machine(memory.peak(found), _slower(link, smaller), workers=1))


def play(
    trace: Trace,
    budget_bytes: int,
    folder: Path,
    plan: Plan | None = None,
    *,
    smaller: int = 1,
    iterations: int = 4,
) -> list[Iteration]:
    """Runs iterations, from the first one.

    Args:
        trace: as `on_gpu` makes it.
        budget_bytes: what the blocks may take, of the trace's bytes.
        folder: for the program.
        plan: made for the trace; None plans nothing: the least recently used leave.
        smaller: as for `on_gpu`.
        iterations: how many.

    Returns:
        Each of them.

    Raises:
        AssertionError: the program failed, or the driver saw something wrong.
    """
    if plan is not None:
        trace = with_recompute(trace, plan.recomputed)
    program = folder / "program.txt"
    program.write_text(_program(trace, budget_bytes, plan, smaller, iterations))
    environment = {**os.environ, "SWAPMEM_CUDA_DRIVER": str(fake_cuda.library())}
    run = subprocess.run(
        [fake_cuda.beside("swapmem_virtual_training"), program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[:2000]
    return [_iteration(line) for line in run.stdout.splitlines()]


def _iteration(line: str) -> Iteration:
    values: dict[str, Any] = json.loads(line)
    for name in ("op_begin_seconds", "op_end_seconds"):
        values[name] = tuple(values[name])
    return Iteration(**values)


def _slower(link: Rates, times: int) -> Rates:
    return replace(
        link,
        out_bytes_per_second=link.out_bytes_per_second / times,
        in_bytes_per_second=link.in_bytes_per_second / times,
        duplex_out_bytes_per_second=link.duplex_out_bytes_per_second / times,
        duplex_in_bytes_per_second=link.duplex_in_bytes_per_second / times,
    )


def _capacity(size: int, unit: int) -> int:
    """What the engine takes for so many bytes: csrc/core/size_class.h."""
    pages = max(-(-size // unit) * unit, 16 * _PAGE_BYTES) // _PAGE_BYTES
    step = 1 << max(0, (pages - 1).bit_length() - 5)
    return -(-pages // step) * step * _PAGE_BYTES


def _program(
    trace: Trace, budget_bytes: int, plan: Plan | None, smaller: int, iterations: int
) -> str:
    link = trace.machine.link
    words: list[object] = [budget_bytes, memory.peak(trace)]
    units = (GRANULARITY_BYTES, FRAME_BYTES, _core.cuda_link_chunk_bytes, PART_BYTES)
    words += [*(unit // smaller for unit in units), _core.cuda_link_workers]
    words += [link.out_bytes_per_second, link.in_bytes_per_second, *COSTS, *DELAYS]
    words += [iterations, trace.tail_seconds, len(trace.blocks)]
    for block in trace.blocks:
        carried = -1 if block.carried_from is None else block.carried_from
        words += [block.bytes, int(block.born is None), carried, part_of(block)]
    words.append(len(trace.ops))
    for op in trace.ops:
        words += [op.name.replace(" ", "_"), op.seconds, op.gap_seconds, *_list(op.touches)]
    words.append(len(trace.changes))
    for change in trace.changes:
        words += [change.slot, change.block, int(change.allocates)]
    words.append(int(plan is not None))
    if plan is not None:
        words += _plan(trace, plan)
    return " ".join(str(word) for word in words)


def _plan(trace: Trace, plan: Plan) -> list[object]:
    """A plan whose blocks stand for the trace's: the program knows their addresses."""
    blocks, at_begin, steps = instructions(_recorded(trace), plan)
    words: list[object] = [len(blocks)]
    for size, number, _, carried, slot, ordinal in blocks:
        words += [size, number, carried, slot, ordinal]
    words += [*_list(at_begin), len(steps)]
    for _, fetch, leave, need_bytes in steps:
        words += [*_list(fetch), *_list(leave), need_bytes]
    return words


def _recorded(trace: Trace) -> Recorded:
    births: list[Birth | None] = [None] * len(trace.blocks)
    slot, ordinal = -1, 0
    for change in trace.changes:
        if not change.allocates:
            continue
        ordinal = ordinal + 1 if change.slot == slot else 0
        slot = change.slot
        births[change.block] = Birth(slot, ordinal)
    return Recorded(trace, tuple((b, b) for b in range(len(births))), tuple(births))


def _list(values: Sequence[int]) -> list[int]:
    return [len(values), *values]
