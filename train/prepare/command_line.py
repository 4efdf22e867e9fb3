"""What the commands share: one-line errors, options, progress bars."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from swapmem.files import replacing
from train.errors import InputError

_BAD_INPUT = 2
_INTERRUPTED = 130


class OneLineErrors(click.Group):
    """A group of commands whose errors are one line each."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the command and ends the process: 0 done, 2 bad input or disk, 130 interrupted."""
        options["standalone_mode"] = False
        try:
            status = super().main(*arguments, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(_BAD_INPUT)
        except click.ClickException as error:
            _fail(_BAD_INPUT, error.format_message())
        except InputError as error:
            _fail(_BAD_INPUT, str(error))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _fail(_BAD_INPUT, f"{place}{error.strerror or error}")
        except MemoryError as error:
            _fail(_BAD_INPUT, f"{error or 'out of memory'}; fewer --threads take less")
        except (click.Abort, KeyboardInterrupt):
            _fail(_INTERRUPTED, "interrupted; the same command goes on where it was")
        sys.exit(status if isinstance(status, int) else 0)


def _fail(status: int, message: str) -> None:
    click.echo(f"prepare: error: {' '.join(message.split())}", err=True)
    sys.exit(status)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar on a terminal, and nothing elsewhere.

    Yields:
        A function that is told how many of how many are done.
    """
    console = Console(stderr=True)
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def tell_unreadable(unreadable: list[tuple[str, str]], listing: Path) -> None:
    """Says how many images could not be read, and writes which ones to a file.

    Args:
        unreadable: Path and reason of each.
        listing: The file; one that an earlier run left is removed where there is nothing to say.
    """
    if not unreadable:
        listing.unlink(missing_ok=True)
        return
    with replacing(listing) as file:
        file.write("".join(f"{path}\t{reason}\n" for path, reason in unreadable).encode())
    click.echo(f"{len(unreadable)} images cannot be read: {listing}", err=True)


def write_new(files: dict[Path, str], overwrite: bool) -> None:
    """Writes text files; all of them or none.

    Args:
        files: What to write where. What stands there already with these contents is left alone.
        overwrite: Whether other contents are replaced.

    Raises:
        InputError: A file has other contents; nothing was written.
        OSError: A file cannot be written.
    """
    for path, text in files.items():
        if path.exists() and not overwrite and path.read_bytes() != text.encode():
            raise InputError(f"{path}: exists with other contents; --overwrite replaces it")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())


threads_option = click.option(
    "--threads",
    "--num-thread",
    type=click.IntRange(1),
    default=len(os.sched_getaffinity(0)),
    help="Threads that decode and encode; as many as there are cores by default.",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what is there, finished or not."
)
