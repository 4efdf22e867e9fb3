"""`swapmem plan`: what another budget, link, device, batch or insize would do."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import click

from swapmem.cli import plan_picture, plan_text
from swapmem.cli.failures import BadInput
from swapmem.errors import Error
from swapmem.explain import run_file
from swapmem.files import read_text, write_text
from swapmem.planner import memory, trace_json, whatif
from swapmem.planner.errors import PlanError
from swapmem.planner.joint import Recompute
from swapmem.planner.trace import Trace
from swapmem.sizes import format_bytes, parse_bytes

_BEGIN_CHARACTERS = 200


def _size(context: click.Context, parameter: click.Parameter, text: Any) -> Any:
    try:
        return tuple(parse_bytes(one) for one in text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _rate(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = float(parse_bytes(text.removesuffix("/s")))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no rate; write it such as '25GB/s'") from error
    if rate <= 0:
        raise click.BadParameter(f"{text!r}: must be above 0")
    return rate


def _above_zero(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value:g}: must be above 0")
    return value


def _trace(path: Path) -> Trace:
    """Reads a trace, or that of a run file, which says what it is at its begin."""
    try:
        begin = read_text(path)[:_BEGIN_CHARACTERS]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error):
        begin = ""  # whoever reads traces says what is wrong with it
    if run_file.FORMAT not in begin:
        return trace_json.load(path)[0]
    trace = run_file.load_run(path).trace
    if trace is None:
        raise PlanError(f"{path}: nothing was planned in this run, so that it holds no trace")
    return trace


@click.command("plan")
@click.argument("trace_file", metavar="TRACE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--device-memory",
    "budgets",
    metavar="SIZE",
    multiple=True,
    callback=_size,
    help="Budget, such as 16GiB; may be given more than once. By default a range of them.",
)
@click.option("--link", metavar="RATE", callback=_rate, help="Each way, such as 25GB/s.")
@click.option(
    "--compute-scale",
    type=float,
    default=1.0,
    show_default=True,
    callback=_above_zero,
    help="How many times as fast the other device runs the ops.",
)
@click.option(
    "--recompute",
    type=click.Choice(["auto", "never", "always"]),
    default="auto",
    show_default=True,
    help="Whether segments may be computed again instead of stored.",
)
@click.option("--fit", is_flag=True, help="The smallest budget, and the largest batch or insize.")
@click.option(
    "--slowdown",
    type=click.FloatRange(min=1),
    default=1.05,
    show_default=True,
    help="With --fit: how many times as long as in core.",
)
@click.option("--batch", type=click.IntRange(min=1), help="With --fit: the batch of the trace.")
@click.option("--insize", type=click.IntRange(min=1), help="With --fit: the insize of the trace.")
@click.option("--reasons", is_flag=True, help="Say of each block why it is kept or swapped.")
@click.option(
    "--picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw time against budget: .png, .svg, .pdf.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the predictions.",
)
def plan_command(
    trace_file: Path,
    budgets: tuple[int, ...],
    link: float | None,
    compute_scale: float,
    recompute: Recompute,
    fit: bool,
    slowdown: float,
    batch: int | None,
    insize: int | None,
    reasons: bool,
    picture: Path | None,
    json_file: Path | None,
) -> None:
    """Predict an iteration with other budgets, links and devices from a recorded TRACE.

    Nothing is measured: ops take what they took when the trace was recorded. Exit status 1 if no
    plan exists for a budget that was asked for.
    """
    if picture is not None and picture.suffix not in plan_picture.SUFFIXES:
        raise BadInput(f"{picture}: its suffix can be {', '.join(plan_picture.SUFFIXES)}")
    try:
        trace = _trace(trace_file)
        trace = whatif.elsewhere(trace, link_bytes_per_second=link, compute_scale=compute_scale)
    except Error as error:
        raise BadInput(str(error)) from error
    except OSError as error:
        raise BadInput(f"{trace_file}: {error.strerror}") from error
    rows = whatif.predict(trace, budgets or whatif.budgets(trace), recompute=recompute)
    knee = whatif.knee(rows)
    click.echo(plan_text.table(rows, knee, trace))
    if fit:
        for line in plan_text.fit(trace, budgets, slowdown, recompute, batch, insize):
            click.echo(line)
    if reasons:
        click.echo(plan_text.reasons(trace, budgets, recompute))
    try:
        if json_file is not None:
            write_text(json_file, json.dumps(plan_text.record(trace, rows, knee), indent=1) + "\n")
        if picture is not None:
            plan_picture.draw(rows, knee, memory.peak(trace), picture)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    lacking = [row for row in rows if not row.feasible]
    if lacking:
        raise click.ClickException(
            f"no plan exists for {', '.join(format_bytes(row.budget_bytes) for row in lacking)}: "
            f"it takes {lacking[0].needed_bytes:,} bytes ({format_bytes(lacking[0].needed_bytes)})"
        )
