"""What was decided for each block."""

from __future__ import annotations

from swapmem.explain.run_file import Run
from swapmem.planner.repeated import repeated_segments


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
