"""The command of this package: ``python -m train.cluster submit config.yaml``.

Exit status: 0 done; 1 the scheduler refused or the disk did; 2 the config or a file is wrong.
"""

import sys
from datetime import datetime
from pathlib import Path

import click

from train.cluster.config import load_config
from train.cluster.mini import SIZES, write_mini_lists
from train.cluster.submit import SubmitError, dry_run, submit
from train.errors import InputError


@click.group()
def main() -> None:
    """Trains on a cluster."""


@main.command("submit")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--dry-run", "dry", is_flag=True, help="Print the job script; write nothing.")
def submit_command(config: Path, dry: bool) -> None:
    """Submits the job that CONFIG describes, to qsub or sbatch."""
    job = load_config(config)
    if dry:
        click.echo(dry_run(job, datetime.now()), nl=False)
        return
    submission = submit(job, config, datetime.now())
    click.echo(submission.script)
    click.echo(submission.said)


@main.command("mini")
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("val", type=click.Path(path_type=Path))
@click.option("--out", default="lists", show_default=True, help="Directory for the lists.")
@click.option("--classes", multiple=True, type=click.IntRange(1), default=SIZES, show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def mini_command(train: Path, val: Path, out: str, classes: tuple[int, ...], seed: int) -> None:
    """Writes the lists of a few classes out of TRAIN and VAL, the lists of all."""
    for path in write_mini_lists(train, val, out, classes, seed):
        click.echo(path)


def run(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        main(argv, prog_name="train.cluster", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except InputError as error:
        return _failed(2, f"error: {error}")
    except (SubmitError, OSError) as error:
        return _failed(1, f"failed: {error}")
    return 0


def _failed(status: int, message: str) -> int:
    print(f"train.cluster: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(run())
