"""The names that options and configs may choose from, and what is said of any other."""

import difflib
from collections.abc import Iterable

#: What Chainer 7.8.1 knows.
COMMUNICATORS = ("pure_nccl", "flat", "naive", "non_cuda_aware", "dummy")

#: What ChainerMN before version 6 knew beside these, each with what does its work now on GPUs.
#: They differed in how they led traffic between nodes, which NCCL arranges by itself today.
OLD_COMMUNICATORS = {
    "hierarchical": "pure_nccl",
    "two_dimensional": "pure_nccl",
    "single_node": "pure_nccl",
}

#: Read each image when its turn comes, or keep this process's share of the files in memory.
LOADTYPES = ("original", "custom")

#: Load in the main thread, in threads, or in processes.
ITERATORS = ("serial", "thread", "process")

OPTIMIZERS = ("momentum_sgd", "adam", "rmsprop", "rmsprop_warmup")

#: How the learning rate falls: by a factor at epochs, along a power of what is left, or not at all.
SCHEDULES = ("step", "poly", "fixed")

#: How memory is saved with ``--ooc``.
OUT_OF_CORE = ("auto", "swap", "recompute")


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns what to say of a name that is not known.

    Args:
        kind: What it should be a name of, such as "architecture".
        name: The unknown name.
        known: The known ones.

    Example:
        >>> nearest("iterator", "threads", ITERATORS)
        "unknown iterator 'threads': did you mean thread? known: serial, thread, process"
    """
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}known: {', '.join(names)}"
