"""What was decided for each block, and for each segment of the model."""

from __future__ import annotations

from dataclasses import dataclass

from swapmem.explain.run_file import Run
from swapmem.planner.trace import Trace


@dataclass(frozen=True)
class Repeated:
    """A segment whose forward ran again in backward.

    Attributes:
        name: of the segment.
        pairs: for each op that ran again: index of its first run, index of its second.
        seconds: of the second runs.
    """

    name: str
    pairs: tuple[tuple[int, int], ...]
    seconds: float


def repeated_segments(trace: Trace) -> list[Repeated]:
    """Finds the segments whose forward the iteration ran twice.

    Args:
        trace: with the names of segments, if the model has any.

    Returns:
        In the order in which they ran again.
    """
    turn = next((i for i, op in enumerate(trace.ops) if op.phase == "backward"), len(trace.ops))
    first: dict[str, list[int]] = {}
    second: dict[str, list[int]] = {}
    for i, op in enumerate(trace.ops):
        if op.phase == "forward" and op.segment is not None:
            (first if i < turn else second).setdefault(op.segment, []).append(i)
    found = []
    for name, again in second.items():
        # It runs again as far as backward needs it: some ops at its end do not.
        pairs = tuple(zip(first.get(name, []), again, strict=False))
        if pairs and all(trace.ops[i].name == trace.ops[k].name for i, k in pairs):
            seconds = sum(trace.ops[k].seconds for k in again)
            found.append(Repeated(name, pairs, seconds))
    return found


def reasons(run: Run) -> list[str]:
    """Why each block is kept, swapped, recomputed or not eligible.

    The plan is made for a trace in which segments run again already, and takes what they do not
    store for blocks that die young. Of those that backward makes again it is said here that they
    are recomputed.

    Args:
        run: with a trace.

    Returns:
        A reason for each block of the trace: what was decided, a colon, and why; "no plan" alone
        where there is none.
    """
    assert run.trace is not None
    if run.plan is None:
        return ["no plan"] * len(run.trace.blocks)
    trace, found = run.trace, list(run.plan.reasons)
    made: dict[int, list[int]] = {}
    for i, block in enumerate(trace.blocks):
        if block.born is not None and block.born % 2:
            made.setdefault(block.born // 2, []).append(i)
    late = {i for op in trace.ops if op.phase == "backward" for i in op.touches}
    for segment in repeated_segments(trace):
        for first, second in segment.pairs:
            olds, news = made.get(first, []), made.get(second, [])
            if len(olds) != len(news):
                continue
            for old, new in zip(olds, news, strict=True):
                freed = trace.blocks[old].freed
                if new in late and freed is not None and freed // 2 <= second:
                    found[old] = (
                        f"recomputed: {segment.name} runs again in backward, where op {second} "
                        f"makes it anew as block {new}"
                    )
    return found


def decision(reason: str) -> str:
    """What was decided, the word or two with which a reason opens.

    Example:
        >>> decision("not eligible: a variable refers to it")
        'not eligible'
    """
    return reason.partition(":")[0]
