"""The explanation of a run as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from swapmem.explain.causes import milliseconds
from swapmem.explain.decisions import decision, reasons
from swapmem.explain.figures import Figures, Lane, figures
from swapmem.explain.identity import block_name
from swapmem.explain.run_file import Run
from swapmem.explain.timeline import Stall, Timeline
from swapmem.planner.repeated import repeated_segments
from swapmem.sizes import format_bytes

_LONGEST = 10
_NAMES_EACH = 5
_ORDER = {"swapped": 0, "recomputed": 1, "kept": 2, "not eligible": 3}


def explanation(run: Run, timeline: Timeline) -> str:
    """Writes what an iteration did and why.

    Args:
        run: where the timeline is from.
        timeline: of one of its iterations.

    Returns:
        Lines without a newline at the end: figures, the longest stalls with their causes, and
        how many blocks were kept, swapped and recomputed, with the largest of each.

    Example:
        >>> print(explanation(run, measured(run)))
    """
    lines = [summary(run, timeline)]
    if run.plan is not None:
        lines += _decisions(run)
    lines += [f"notice: {notice}" for notice in run.notices]
    return "\n".join(lines)


def summary(run: Run, timeline: Timeline) -> str:
    """Writes what an iteration did: the explanation without the blocks, for the end of a run.

    Args:
        run: where the timeline is from.
        timeline: of one of its iterations.

    Returns:
        Some twenty lines without a newline at the end.

    Example:
        >>> memory.save_run("run.json.gz")
        >>> run = load_run("run.json.gz")
        >>> print(summary(run, measured(run)))
    """
    found = figures(run, timeline)
    lines = [f"{title(run)}; {subtitle(run, timeline)}", *_figures(found, timeline, run)]
    return "\n".join([*lines, *_stalls(timeline)])


def title(run: Run) -> str:
    """What to call the run."""
    return ", ".join(f"{key} {text}" for key, text in run.about.items()) or "a run of swapmem"


def subtitle(run: Run, timeline: Timeline) -> str:
    """What is shown of it."""
    device = run.stats.get("device") or (run.trace.device if run.trace else "")
    return f"{device}, one iteration, {timeline.source}".removeprefix(", ")


def figure_line(found: Figures) -> str:
    """The figures that matter most, in a line for a heading."""
    text = f"{found.seconds:.3f} s, of that {found.stall_seconds:.3f} s stalls"
    if found.bound_seconds:
        text += f"; {bound(found)}"
    return text


def bound(found: Figures) -> str:
    """How far the time is from the plan's bound."""
    times = found.seconds / (found.bound_seconds or found.seconds)
    if times >= 1:
        return f"{times:.2f}x of the bound"
    # The bound is of the trace's op times.
    return f"{times:.2f}x of the bound: ops were faster than in the trace"


def why_blocks(run: Run, pattern: str) -> list[str]:
    """Says of blocks why each is kept, swapped, recomputed or not eligible.

    Args:
        run: with a plan.
        pattern: a regular expression that is found somewhere in "name (block 12)", or in the
            reason, without regard to case.

    Returns:
        A line for each block that matches, in the order of the trace; none without a plan.

    Raises:
        re.error: the pattern is no regular expression.
    """
    if run.trace is None or run.plan is None:
        return []
    search = re.compile(pattern, re.IGNORECASE).search
    lines = []
    for i, (block, reason) in enumerate(zip(run.trace.blocks, reasons(run), strict=True)):
        name = block_name(run.trace.blocks, i)
        if search(name) or search(reason):
            lines.append(f"{name}, {format_bytes(block.bytes)}: {reason}")
    return lines


def _figures(found: Figures, timeline: Timeline, run: Run) -> list[str]:
    lines = [f"  time     {figure_line(found)}"]
    if found.planned_seconds is not None and timeline.source == "measured":
        differs = found.seconds / max(found.planned_seconds, 1e-9) - 1
        more = found.seconds - found.stall_seconds - (found.compute_seconds or 0.0)
        lines.append(
            f"  planned  {found.planned_seconds:.3f} s (measured {differs:+.1%}), of that "
            f"{found.compute_seconds:.3f} s compute (measured {more:+.3f} s)"
        )
    budget = format_bytes(found.budget_bytes) if found.budget_bytes is not None else "no limit"
    lines.append(
        f"  memory   at most {format_bytes(found.peak_bytes)} on the device, budget {budget}; "
        f"at most {format_bytes(found.swapped_out_peak_bytes)} swapped out"
    )
    lines += [f"  out      {_lane(found.out)}", f"  in       {_lane(found.in_)}"]
    if found.hidden_share is not None:
        lines.append(f"  hidden   {found.hidden_share:.0%} of the time with a copy under way")
    if run.plan is None:
        reason = "there is no plan" if run.trace else "no two iterations were alike"
        lines.append(f"  misses   {reason}: least recently used blocks were swapped out on demand")
    else:
        lines.append(f"  misses   {_misses(found)}")
    repeated = repeated_segments(run.trace) if run.trace else []
    if repeated:
        names = ", ".join(dict.fromkeys(segment.name for segment in repeated))
        seconds = sum(segment.seconds for segment in repeated)
        lines.append(f"  again    {seconds:.3f} s of forward, to recompute {names}")
    if found.faults is not None:
        lines.append(f"  faults   {found.faults} in all of the run")
    return lines


def _lane(lane: Lane) -> str:
    if lane.bytes_per_second is None:
        return "nothing moved"
    text = f"{format_bytes(lane.bytes)} in {lane.count} copies, "
    text += f"{format_bytes(lane.bytes_per_second)}/s while busy"
    if lane.link_bytes_per_second:
        share = lane.bytes_per_second / lane.link_bytes_per_second
        text += f", {share:.0%} of what the link gave alone"
    return text + f"; {lane.hidden_share:.0%} hidden"


def _misses(found: Figures) -> str:
    count = (found.out.misses or 0) + (found.in_.misses or 0)
    if not count:
        return "none: every copy was planned"
    size = format_bytes(found.out.miss_bytes + found.in_.miss_bytes)
    return (
        f"{found.out.misses} copies out and {found.in_.misses} copies in, {size}, "
        "of blocks that the plan keeps"
    )


def _stalls(timeline: Timeline) -> list[str]:
    longest = timeline.longest_stalls(_LONGEST)
    if not longest:
        return ["no stalls"]
    count = len(timeline.stalls)
    title = "stalls" if count <= _LONGEST else f"the {_LONGEST} longest of {count} stalls"
    return [f"{title}:", *(_stall(n, stall) for n, stall in enumerate(longest, start=1))]


def _stall(number: int, stall: Stall) -> str:
    op = stall.op_name or "outside every op"
    where = f"{op} (op {stall.op})" if stall.op is not None else op
    at = f"at {stall.begin_seconds:.3f} s"
    return f"  {number:2d} {milliseconds(stall.seconds):>9}  {at}, {where}: {stall.why}"


def _decisions(run: Run) -> list[str]:
    """Blocks by what was decided for them; of each kind the largest by name."""
    assert run.trace is not None
    kinds: dict[str, list[int]] = {}
    why = reasons(run)
    for i, reason in enumerate(why):
        kinds.setdefault(decision(reason), []).append(i)
    blocks = run.trace.blocks
    lines = ["blocks:"]
    for kind in sorted(kinds, key=lambda kind: (_ORDER.get(kind, len(_ORDER)), kind)):
        members = kinds[kind]
        size = sum(blocks[i].bytes for i in members)
        lines.append(f"  {kind}: {len(members)}, together {format_bytes(size)}; the largest:")
        largest = sorted(members, key=lambda i: -blocks[i].bytes)[:_NAMES_EACH]
        lines += [f"    {line}" for line in _named(run, largest, why)]
    return lines


def _named(run: Run, members: Sequence[int], reasons_of: Sequence[str]) -> Iterable[str]:
    assert run.trace is not None
    for i in members:
        name, reason = block_name(run.trace.blocks, i), reasons_of[i]
        why = reason.partition(": ")[2] or reason
        yield f"{name}, {format_bytes(run.trace.blocks[i].bytes)}: {why}"
