"""What a config may say: every key of the TSUBAME set-up, and a few for other clusters."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from train import choices
from train.cluster.config_file import ConfigFile, read_config_file
from train.errors import InputError
from train.models import ARCHITECTURES

#: Processes on a node of each type, one for each of its GPUs.
NODE_TYPES = {"f_node": 4, "h_node": 2, "q_node": 1, "s_gpu": 1}

#: Other spellings of keys.
SPELLINGS = {"nnodetype": "nodetype", "mean.npy": "mean"}

_COMMUNICATORS = (*choices.COMMUNICATORS, *choices.OLD_COMMUNICATORS)


def _one_of(kind: str, known: Collection[str]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(choices.nearest(kind, str(value), known))
        return value

    return BeforeValidator(check)


def _one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


def _one_word(text: str) -> str:
    if not text or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("must be one word, without white space")
    return text


def _matching(pattern: str, meaning: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"must be {meaning}")
        return text

    return AfterValidator(check)


_NAME = "a name of letters, digits, '.', '_', '+' and '-' that begins with a letter"
_DIRECTIVE = "the name of a directive: letters, digits and '-'"

Text = Annotated[str, AfterValidator(_one_line)]
#: What stands in a scheduler's directive, where nothing can be quoted.
Word = Annotated[str, AfterValidator(_one_word)]
Directive = Annotated[str, _matching(r"[A-Za-z][\w-]*", _DIRECTIVE)]
Count = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """A job. Paths are relative to the directory that the job is submitted from.

    Attributes:
        nodetype: Type of a node; also written nnodetype. May be left out where `processes` is not.
        nnodes: Number of nodes.
        walltime: hh:mm:ss after which the scheduler ends the job.
        jobname: Name for the scheduler; also names the job in its lists.
        stdout: File for what the job prints; None leaves it to the scheduler.
        stderr: File for its messages; None leaves it to the scheduler.
        others: Further directives for the scheduler, value by name; None as value gives it none.
        modules: Shell file that the job sources first, with the ``module load`` lines.
        nclasses: Number of classes; below 1000 the lists are mini-ImageNet's.
        mean: The mean image; also written mean.npy.
        arch: Architecture, a key of train.models.ARCHITECTURES.
        epoch: Sweeps over the training images.
        batchsize: Images an iteration and process.
        loaderjob: Workers of a process that load images; None is the trainer's default.
        out: Each job makes a directory in here, named by the time.
        resume: Snapshot to go on from.
        initmodel: Weights to start from.
        test: Evaluate and log every few iterations.
        communicator: How ChainerMN exchanges gradients; None is pure_nccl with GPUs, else naive.
        loadtype: "original" reads an image when its turn comes, "custom" a process's share at once.
        iterator: Who loads images: "serial", "thread" or "process".
        optimizer: "momentum_sgd", "adam", "rmsprop_warmup" or "rmsprop".
        scheduler: "sge" writes for qsub, "slurm" for sbatch.
        group: Group that is charged for the job (qsub -g, sbatch --account).
        processes: Processes on a node; by default what `nodetype` says.
        gpu: Whether each process has a GPU.
        train: Training images, a list or a record file; {nclasses} stands for their number.
        val: Validation images, likewise.
        root: Directory that the lists' paths start from.
        insize: Height and width of the crops in pixels; None is the trainer's default.
        ooc: Train out of core: true, or "auto", "swap" or "recompute".
        device_memory: With `ooc`: each process's budget, such as 8GiB.
        host_memory: With `ooc` and `gpu`: pinned memory of each process.
        spill_dir: With `ooc`: directory on a fast disk of the node.
        python: The interpreter; by default the one that submits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodetype: Annotated[str, _one_of("node type", NODE_TYPES)] | None = None
    nnodes: Count
    walltime: Annotated[str, _matching(r"\d{1,4}:[0-5]\d:[0-5]\d", "hh:mm:ss, such as 00:20:00")]
    jobname: Annotated[str, _matching(r"[A-Za-z_][\w.+-]*", _NAME)] = "train"
    stdout: Word | None = None
    stderr: Word | None = None
    others: dict[Directive, Text | int | float | None] = {}
    modules: Text | None = None
    nclasses: Literal[8, 16, 32, 1000]
    mean: Text = "mean.npy"
    arch: Annotated[str, _one_of("architecture", tuple(ARCHITECTURES))]
    epoch: Count
    batchsize: Count
    loaderjob: Count | None = None
    out: Text = "out"
    resume: Text | None = None
    initmodel: Text | None = None
    test: bool | None = None
    communicator: Annotated[str, _one_of("communicator", _COMMUNICATORS)] | None = None
    loadtype: Annotated[str, _one_of("loadtype", choices.LOADTYPES)] = "original"
    iterator: Annotated[str, _one_of("iterator", choices.ITERATORS)] = "process"
    optimizer: Annotated[str, _one_of("optimizer", choices.OPTIMIZERS)] = "momentum_sgd"

    scheduler: Annotated[str, _one_of("scheduler", ("sge", "slurm"))] = "sge"
    group: Word | None = None
    processes: Count | None = None
    gpu: bool = True
    train: Text = "lists/train_{nclasses}.txt"
    val: Text = "lists/val_{nclasses}.txt"
    root: Text = "."
    insize: Count | None = None
    ooc: Annotated[str, _one_of("way to save memory", choices.OUT_OF_CORE)] | bool = False
    device_memory: Text | None = None
    host_memory: Text | None = None
    spill_dir: Text | None = None
    python: Text | None = None

    @property
    def processes_per_node(self) -> int:
        """Processes that run on each node."""
        return self.processes or NODE_TYPES[self.nodetype or ""]

    def lists(self) -> tuple[str, str]:
        """Returns the training and the validation images, with {nclasses} filled in."""
        number = str(self.nclasses)
        return self.train.replace("{nclasses}", number), self.val.replace("{nclasses}", number)

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        if self.nodetype is None and self.processes is None:
            known = ", ".join(NODE_TYPES)
            raise ValueError(
                f"'nodetype' is missing: one of {known}; or 'processes', how many run on a node"
            )
        if self.resume and self.initmodel:
            raise ValueError("'resume' and 'initmodel' are both given: a snapshot has its weights")
        ooc_only = [k for k in ("device_memory", "host_memory", "spill_dir") if getattr(self, k)]
        if ooc_only and not self.ooc:
            raise ValueError(f"{ooc_only[0]!r} is for training out of core: add 'ooc: true'")
        on_gpus = set(choices.COMMUNICATORS) - {"naive"}
        if not self.gpu and self.communicator in on_gpus:
            raise ValueError(f"'communicator' {self.communicator!r} needs GPUs: take 'naive'")
        if self.host_memory and not self.gpu:
            raise ValueError("'host_memory' is pinned for a GPU, and 'gpu' is false")
        return self


def load_config(path: str | Path) -> Config:
    """Reads a config and checks all of it.

    Args:
        path: A .yaml, .yml or .json file.

    Returns:
        The job.

    Raises:
        InputError: A key is unknown, missing or given in two spellings, or a value is not allowed;
            one line that names file, line and key, and the nearest valid name.

    Example:
        >>> load_config("config.yaml").nnodes
        2
    """
    file = read_config_file(path)
    values: dict[str, Any] = {}
    for key, value in file.values.items():
        name = SPELLINGS.get(key, key)
        if name in values:
            raise InputError(f"{file.where(key)}: {key!r} says {name!r} a second time")
        if name not in Config.model_fields:
            known = [*Config.model_fields, *SPELLINGS]
            raise InputError(f"{file.where(key)}: {choices.nearest('key', key, known)}")
        values[name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_told(error, file)) from error


def _told(error: ValidationError, file: ConfigFile) -> str:
    """Says the first thing that is wrong, and where."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "missing":
        return f"{file.path}: the key {name!r} is missing"
    cause = first.get("ctx", {}).get("error") or first["msg"][:1].lower() + first["msg"][1:]
    written = next((key for key in file.values if SPELLINGS.get(key, key) == name), None)
    if written is None:
        return f"{file.path}: {cause}"
    return f"{file.where(written)}: {written!r} is {file.values[written]!r}: {cause}"
