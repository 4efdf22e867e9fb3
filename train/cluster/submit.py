"""Hands a job to the scheduler: script, copy of the code, qsub or sbatch."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import swapmem
from train.cluster.config import Config
from train.cluster.script import job_script
from train.errors import InputError

#: The name of the script in the copy of the code.
SCRIPT = "main.sh"

_TIME = "%y.%m.%d_%H.%M.%S"
_SUBMITTERS = {"sge": ("qsub", "-g"), "slurm": ("sbatch", "--account")}


class SubmitError(Exception):
    """The scheduler refused the job; the message is what it said."""


@dataclass(frozen=True)
class Submission:
    """A job as it was handed over.

    Attributes:
        script: The job script.
        said: What the scheduler answered, with the job's number.
    """

    script: Path
    said: str


def submit(config: Config, source: Path, now: datetime) -> Submission:
    """Writes a job's directory and submits its script.

    The directory is ``out/TIME``, with script, config and the code of this moment in
    ``out/TIME/code``. It appears whole or not at all.

    Args:
        config: The job.
        source: The config's file, which is copied too.
        now: Names the directory.

    Returns:
        The script's path and the scheduler's answer.

    Raises:
        InputError: A file that the config names is missing, or the scheduler's command is; nothing
            was written.
        SubmitError: The scheduler refused. The directory stays, for a look at the script.
        OSError: The directory cannot be written.
    """
    require_files(config)
    command = submit_command(config)
    if shutil.which(command[0]) is None:
        raise InputError(
            f"{command[0]}: no such command here: submit where the scheduler "
            f"{config.scheduler!r} is, or set 'scheduler'; --dry-run shows the script anywhere"
        )
    job = _unused(Path(config.out).absolute(), now.strftime(_TIME))
    _write_job(config, source, job)
    script = job / "code" / SCRIPT
    done = subprocess.run([*command, str(script)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SubmitError(
            f"{command[0]} ended with status {done.returncode}: "
            f"{(done.stderr or done.stdout).strip() or 'it said nothing'}; the script is {script}"
        )
    return Submission(script, done.stdout.strip())


def dry_run(config: Config, now: datetime) -> str:
    """Returns the script that `submit` would submit now. Writes nothing.

    Raises:
        InputError: A file that the config names is missing.
    """
    require_files(config)
    return job_script(config, _unused(Path(config.out).absolute(), now.strftime(_TIME)))


def submit_command(config: Config) -> list[str]:
    """Returns the scheduler's command, without the script that is its last argument."""
    name, group = _SUBMITTERS[config.scheduler]
    return [name, group, config.group] if config.group else [name]


def require_files(config: Config) -> None:
    """Looks for what the config names, so that the job does not wait for hours and then fail.

    Raises:
        InputError: Something is missing; names the key and the path.
    """
    training_images, validation_images = config.lists()
    named = {
        "train": training_images,
        "val": validation_images,
        "root": config.root,
        "mean": config.mean,
        "modules": config.modules,
        "initmodel": config.initmodel,
        "resume": config.resume,
    }
    for key, path in named.items():
        if path is not None and not os.path.exists(path):
            raise InputError(f"{key!r}: there is no {path!r}, seen from {os.getcwd()}{_hint(key)}")


def _hint(key: str) -> str:
    hints = {
        "train": "; `python -m train.cluster mini` makes the lists of 8, 16 and 32 classes",
        "mean": "; train/compute_mean.py makes one",
    }
    return hints.get("train" if key == "val" else key, "")


def _unused(out: Path, time: str) -> Path:
    """Returns a directory's path for the job; two in one second get one each."""
    job, number = out / time, 1
    while job.exists():
        number += 1
        job = out / f"{time}_{number}"
    return job


def _write_job(config: Config, source: Path, job: Path) -> None:
    draft = job.with_name(f".{job.name}.{os.getpid()}")
    code = draft / "code"
    try:
        code.mkdir(parents=True)
        copy_code(code)
        shutil.copy2(source, code)
        script = code / SCRIPT
        script.write_text(job_script(config, job), encoding="utf-8")
        script.chmod(0o755)
        draft.rename(job)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def copy_code(target: Path) -> None:
    """Copies the packages that a job runs, as they are in this process.

    That is ``train``, and ``swapmem`` with its extension module; the working directory may hold
    data sets, results and other jobs besides.

    Args:
        target: A directory; each package becomes a directory in it.
    """
    packages = (Path(__file__).parents[1], Path(swapmem.__file__).parent)
    for package in packages:
        shutil.copytree(
            package, target / package.name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
