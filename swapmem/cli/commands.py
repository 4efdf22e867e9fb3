"""The command line: options, what is refused, exit statuses."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.progress import Progress, TextColumn

import swapmem
from swapmem.cli import checks_spill, doctor, finding, picture, results
from swapmem.cli.case import Case, Outcome, measure
from swapmem.cli.cuda_cases import cuda_cases
from swapmem.cli.explain import explain_command
from swapmem.cli.failures import BadInput, Failure
from swapmem.cli.host_cases import host_cases
from swapmem.cli.plan import plan_command
from swapmem.cli.site import Site

_NO_WIDTH = 500
_FAILED = 1


class _OneLineErrors(click.Group):
    """A group whose errors are one line each, whoever found them."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the command and ends the process, like click's own."""
        options["standalone_mode"] = False
        try:
            status = super().main(*arguments, **options)
        except click.ClickException as error:
            click.echo(f"swapmem: {error.format_message()}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("swapmem: interrupted", err=True)
            sys.exit(_FAILED)
        sys.exit(status if isinstance(status, int) else 0)


@click.group("swapmem", cls=_OneLineErrors, no_args_is_help=True)
@click.version_option(swapmem.__version__, package_name="swapmem", message="swapmem %(version)s")
def swapmem_command() -> None:
    """Says what swapmem can do on this machine, measures it, and explains and foretells runs."""


swapmem_command.add_command(explain_command)
swapmem_command.add_command(plan_command)


@swapmem_command.command("doctor")
@click.option("--spill-dir", metavar="DIR", help="Where swapped-out bytes would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor_command(spill_dir: str | None, as_json: bool) -> None:
    """Say what will work on this machine, what will not, and why.

    Takes a few seconds: it writes and reads a sample in the spill directory and copies to and from
    each GPU. Exit status 1 if something makes swapmem unusable.
    """
    findings = list(doctor.examine(spill_dir))
    if as_json:
        click.echo(json.dumps(finding.record(findings), indent=1))
    else:
        _show(finding.table(findings))
    if not finding.usable(findings):
        sys.exit(_FAILED)


def _pattern(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}") from error


def _seconds(context: click.Context, parameter: click.Parameter, seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0):
        raise click.BadParameter(f"{seconds:g}: must be above 0")
    return seconds


def _file(context: click.Context, parameter: click.Parameter, name: str | None) -> Path | None:
    """Finds out before anything is measured that a file cannot be written."""
    if name is None:
        return None
    path = Path(name)
    if path.is_dir():
        raise click.BadParameter(f"{name} is a directory; name a file")
    if not path.parent.is_dir():
        raise click.BadParameter(f"the directory {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"the directory {path.parent} cannot be written to")
    return path


def _picture(context: click.Context, parameter: click.Parameter, name: str | None) -> Path | None:
    path = _file(context, parameter, name)
    if path is None:
        return None
    if path.suffix not in picture.SUFFIXES:
        raise click.BadParameter(f"{name}: its suffix can be {', '.join(picture.SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise click.BadParameter("pictures need matplotlib: pip install 'swapmem[cli]'")
    return path


@swapmem_command.command("bench")
@click.option(
    "--filter",
    "pattern",
    metavar="RE",
    callback=_pattern,
    help="Only cases whose key matches somewhere, such as 'host/out' or '/4MiB$'.",
)
@click.option("--list", "only_list", is_flag=True, help="Name the cases and measure nothing.")
@click.option("--json", "json_file", metavar="FILE", callback=_file, help="Write every sample.")
@click.option(
    "--picture",
    "picture_file",
    metavar="FILE",
    callback=_picture,
    help="Draw it: .png, .svg, .pdf.",
)
@click.option(
    "--seconds",
    type=float,
    default=2.0,
    show_default=True,
    callback=_seconds,
    help="For each case, about; three turns are always taken.",
)
@click.option("--spill-dir", metavar="DIR", help="Which disk to measure; by default TMPDIR's.")
def bench_command(
    pattern: re.Pattern[str] | None,
    only_list: bool,
    json_file: Path | None,
    picture_file: Path | None,
    seconds: float,
    spill_dir: str | None,
) -> None:
    """Measure swapping beside what does the same without swapmem.

    Both are measured in turn; figures are medians; the spread is the middle 80 % of the ratios of
    pairs. Exit status 1 if a case failed or none could be measured.
    """
    directory = spill_dir or tempfile.gettempdir()
    problem = checks_spill.unusable(directory)
    if problem is not None:
        raise BadInput(f"spill directory: {problem}")
    site = Site.here(directory)
    cases = _choose(site, pattern)
    if only_list:
        _show(results.case_table(cases, site))
        return
    outcomes = _measure_all(cases, site, seconds)
    if any(outcome.measured for outcome in outcomes):
        _show(results.outcome_table(outcomes))
    for remark in results.remarks(outcomes):
        click.echo(remark)
    if json_file is not None:
        _write(results.write_json, json_file, results.record(outcomes, site, seconds))
    failed = sum(bool(outcome.error) for outcome in outcomes)
    measured = sum(outcome.measured for outcome in outcomes)
    if picture_file is not None and measured:
        heading = "swapmem (solid) beside what does the same without it (dashed)"
        _write(picture.draw, outcomes, picture_file, heading)
    if failed:
        raise Failure(f"{failed} of {len(outcomes)} cases failed, see above")
    if not measured:
        raise Failure("nothing was measured, see above")


def _choose(site: Site, pattern: re.Pattern[str] | None) -> list[Case]:
    cases = host_cases()
    for device in site.devices or (None,):
        cases += cuda_cases(device)
    if pattern is None:
        return cases
    chosen = [case for case in cases if pattern.search(case.key)]
    if not chosen:
        raise BadInput(f"no case matches {pattern.pattern!r}; 'swapmem bench --list' names them")
    return chosen


def _measure_all(cases: list[Case], site: Site, seconds: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    columns = (TextColumn("{task.completed:.0f} of {task.total:.0f}: {task.description}"),)
    # To standard error, and nothing at all where that is no terminal.
    console = Console(stderr=True)
    quiet = not console.is_terminal
    try:
        with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
            task = progress.add_task("", total=len(cases))
            for case in cases:
                progress.update(task, description=case.key)
                outcomes.append(measure(case, site, seconds))
                progress.advance(task)
    except KeyboardInterrupt:
        raise Failure(
            f"interrupted after {len(outcomes)} of {len(cases)} cases; nothing was written"
        ) from None
    return outcomes


def _write(write: Any, *arguments: Any) -> None:
    try:
        write(*arguments)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from error


def _show(renderable: RenderableType) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(renderable)
        return
    # Programs and files get whole lines: no width to wrap at, no spaces up to it.
    console = Console(highlight=False, width=_NO_WIDTH, file=io.StringIO())
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().strip("\n").splitlines()]
    click.echo("\n".join(lines).lstrip("\n"))
