"""`swapmem explain`: what a run did and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from swapmem.cli.failures import BadInput
from swapmem.errors import Error
from swapmem.explain import html_page, perfetto, picture, text
from swapmem.explain.run_file import Run, load_run

_Function = TypeVar("_Function", bound=Callable[..., Any])
_PARTS = ("text", "picture", "html", "perfetto")


def _stem(run_file: Path) -> str:
    """The file's name without what says that it is compressed JSON."""
    return run_file.name.removesuffix(".gz").removesuffix(".json") or run_file.name


def _chosen(flag: str, about: str) -> Callable[[_Function], _Function]:
    return click.option(f"--{flag}", "parts", flag_value=flag, multiple=True, help=about)


@click.command("explain")
@click.argument("run_file", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "out_dir",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where files go; by default beside RUN.",
)
@_chosen("text", "Print the explanation.")
@_chosen("picture", "Draw the timeline: NAME.png.")
@_chosen("html", "Write a page that needs no network: NAME.html.")
@_chosen("perfetto", "Write a trace for ui.perfetto.dev: NAME.perfetto.json.")
@click.option(
    "--iteration",
    type=int,
    default=-1,
    show_default=True,
    help="Which of the iterations in the run's events; negative counts from the last.",
)
@click.option(
    "--block",
    "pattern",
    metavar="RE",
    help="Say only of blocks whose name or reason matches why they are where they are.",
)
def explain_command(
    run_file: Path,
    out_dir: Path | None,
    parts: tuple[str, ...],
    iteration: int,
    pattern: str | None,
) -> None:
    """Show what a run did and why.

    RUN is the file that a training run leaves behind. Without options it prints the explanation and
    writes all of the files; with some of --text, --picture, --html and --perfetto only these.
    """
    try:
        run = load_run(run_file)
        if pattern is not None:
            _tell_blocks(run, pattern)
            return
        _explain(run, run_file, out_dir or run_file.parent, parts or _PARTS, iteration)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or run_file}: {error.strerror or error}"
        ) from error
    except (Error, ValueError, IndexError) as error:
        raise BadInput(str(error)) from error
    except ImportError as error:
        raise click.ClickException(str(error)) from error


def _explain(
    run: Run, run_file: Path, out_dir: Path, parts: tuple[str, ...], iteration: int
) -> None:
    timeline = html_page.timelines(run, iteration)[0]
    if "text" in parts:
        click.echo(text.explanation(run, timeline))
    if set(parts) > {"text"} or "text" not in parts:
        out_dir.mkdir(parents=True, exist_ok=True)
    stem = out_dir / _stem(run_file)
    if "picture" in parts:
        click.echo(picture.draw(timeline, f"{stem}.png", text.title(run)))
    if "html" in parts:
        html_page.write(run, f"{stem}.html", iteration)
        click.echo(f"{stem}.html")
    if "perfetto" in parts:
        perfetto.write(run, f"{stem}.perfetto.json")
        click.echo(f"{stem}.perfetto.json")


def _tell_blocks(run: Run, pattern: str) -> None:
    try:
        lines = text.why_blocks(run, pattern)
    except re.error as error:
        raise BadInput(f"{pattern!r} is no regular expression: {error}") from error
    if run.plan is None:
        raise click.ClickException("the run had no plan: nothing was decided for any block")
    if not lines:
        raise click.ClickException(f"no block matches {pattern!r}")
    click.echo("\n".join(lines))
