"""A directory that a job can be submitted from, and a scheduler that runs it at once."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from train.cluster import __main__ as command

#: What the job's interpreter does for the trainer: writes down what it was given.
_RECORDER = """
import importlib.util, json, os, sys
train = importlib.util.find_spec("train").origin
seen = {"argv": sys.argv[4:], "train": train, "cwd": os.getcwd()}
json.dump(seen, open("ran.json", "w"))
sys.exit(int(os.environ.get("TRAINER_STATUS", "0")))
"""

_RUN_AT_ONCE = """
echo "$@" > submitted
env -u PYTHONPATH bash "${@: -1}" > log 2>&1
echo $? > status
echo 17
"""

#: Leaves of a launcher's arguments the command that it is to run.
DROP_OPTIONS = 'while [ "${1##*/}" != python ]; do shift; done\n'


class Cluster:
    """A working directory with data, and stand-ins for the commands of a cluster."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.bin = directory / "bin"
        for name in ("qsub", "sbatch"):
            self.command(name, _RUN_AT_ONCE)
        for name in ("mpirun", "srun"):
            self.command(name, 'echo "$@" > launched\n' + DROP_OPTIONS + 'exec "$@"\n')
        self.command(
            "python",
            f'if [ "$3" = train.train_imagenet ]; then exec {sys.executable} -P -c '
            f'\'{_RECORDER}\' "$@"; fi\nexec {sys.executable} "$@"\n',
        )
        for name in ("train_8.txt", "val_8.txt", "mean.npy"):
            (directory / name).write_text("")
        self.values: dict[str, Any] = {
            "nodetype": "f_node",
            "nnodes": 2,
            "walltime": "00:20:00",
            "nclasses": 8,
            "arch": "resnet50",
            "epoch": 3,
            "batchsize": 32,
            "train": "train_{nclasses}.txt",
            "val": "val_{nclasses}.txt",
            "python": str(self.bin / "python"),
        }

    def write(self, **changes: Any) -> str:
        """Writes the config, without the keys whose value here is `...`; returns its name."""
        values = {k: v for k, v in {**self.values, **changes}.items() if v is not ...}
        (self.directory / "config.json").write_text(json.dumps(values, indent=1))
        return "config.json"

    def submit(self, *options: str, **changes: Any) -> int:
        """Submits a job and returns the command's status."""
        return command.run(["submit", *options, self.write(**changes)])

    @property
    def log(self) -> str:
        """What the job printed."""
        return (self.directory / "log").read_text()

    @property
    def ran(self) -> dict[str, Any]:
        """What the trainer was given."""
        return dict(json.loads((self.directory / "ran.json").read_text()))

    def command(self, name: str, body: str) -> None:
        """Puts a shell script where the shell looks first."""
        self.bin.mkdir(exist_ok=True)
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def path(self) -> str:
        """The search path with the stand-ins first."""
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"
