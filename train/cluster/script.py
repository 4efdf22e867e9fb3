"""The job script of a config."""

import shlex
import sys
from pathlib import Path

import jinja2

from train.cluster.config import Config

#: Variables that the log of a job shows. Not all of them: a log is read by others, and an
#: environment may hold passwords.
SHOWN = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "OMP_[A-Z_]*",
    "CUDA_[A-Z_]*",
    "NCCL_[A-Z_]*",
    "JOB_(ID|NAME)",
    "NHOSTS",
    "PE_HOSTFILE",
    "SLURM_(JOB|NODE|NTASKS|STEP)[A-Z_]*",
)

_TEMPLATES = {"sge": "sge.sh.j2", "slurm": "slurm.sh.j2"}


def job_script(config: Config, job: Path) -> str:
    """Returns the shell script that the scheduler runs.

    Args:
        config: The job.
        job: The job's directory, absolute; the code is in ``code`` in there, and what the training
            writes comes to lie in it.

    Returns:
        A bash script, with the directives of the config's scheduler.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    return environment.get_template(_TEMPLATES[config.scheduler]).render(
        config=config,
        code=job / "code",
        python=config.python or sys.executable,
        processes=config.nnodes * config.processes_per_node,
        shown="|".join(SHOWN),
        options=trainer_options(config, job),
    )


def trainer_options(config: Config, job: Path) -> list[str]:
    """Returns what follows ``train_imagenet.py`` on the job's command line."""
    training_images, validation_images = config.lists()
    valued = {
        "root": config.root,
        "mean": config.mean,
        "classes": config.nclasses,
        "loaderjob": config.loaderjob,
        "arch": config.arch,
        "insize": config.insize,
        "batchsize": config.batchsize,
        "epoch": config.epoch,
        "communicator": config.communicator,
        "loadtype": config.loadtype,
        "iterator": config.iterator,
        "optimizer": config.optimizer,
        "out": job,
        "initmodel": config.initmodel,
        "resume": config.resume,
        "ooc": config.ooc if isinstance(config.ooc, str) else None,
        "device-memory": config.device_memory,
        "host-memory": config.host_memory,
        "spill-dir": config.spill_dir,
    }
    flags = {"test": config.test is True, "ooc": config.ooc is True}
    return [
        training_images,
        validation_images,
        *(f"--{name}={value}" for name, value in valued.items() if value is not None),
        *(f"--{name}" for name, wanted in flags.items() if wanted),
        *(["--gpu", *map(str, range(config.processes_per_node))] if config.gpu else []),
    ]
