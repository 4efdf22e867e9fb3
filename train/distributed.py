"""Processes that train one model, by ChainerMN over MPI."""

import array
import fcntl
import os
import signal
import stat
import sys
import termios
import time
from collections.abc import Callable, Mapping
from typing import Any

import chainer
import numpy as np

import swapmem
from train.choices import OLD_COMMUNICATORS
from train.errors import InputError
from train.parallel import Failure, Processes, Result

#: Where MPI's launchers tell a process its rank.
_RANKS = (
    "PMI_RANK",  # MPICH, Intel MPI, Slurm's pmi2
    "PMIX_RANK",  # Open MPI, Slurm's pmix
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_RANK",
)

#: And how many they started.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")

#: How long last words may take to be read: nobody waits for a reader that has stopped.
_READ_WITHIN_SECONDS = 2.0

#: What pip installs for it.
_INSTALL = "pip install 'swapmem[mpi]' brings one, mpi4py alone takes the system's"


def launched_rank(environment: Mapping[str, str]) -> int | None:
    """Returns the rank of a process with such an environment; None if MPI did not start it."""
    return next((int(environment[name]) for name in _RANKS if name in environment), None)


class MPIProcesses(Processes):
    """The processes of an MPI job.

    Args:
        communicator: A name of :data:`train.choices.COMMUNICATORS`; None for pure_nccl on GPUs and
            naive on CPUs.
        on_gpus: Whether arrays are a GPU's.

    Raises:
        InputError: MPI or NCCL is missing, or the communicator needs GPUs and there are none.
    """

    def __init__(self, communicator: str | None, on_gpus: bool):
        super().__init__()
        self._on_gpus = on_gpus
        name, notice = choose_communicator(communicator, on_gpus)
        try:
            # Starts MPI.
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"several processes need MPI and mpi4py: {reason}; {_INSTALL}"
            ) from error
        import chainermn

        self._mpi = MPI
        self.rank, self.size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
        _require_launched(self.size)
        if notice and self.is_first:
            print(f"train_imagenet.py: {notice}", file=sys.stderr)
        try:
            self._communicator = chainermn.create_communicator(name)
        except (ImportError, RuntimeError) as error:
            raise InputError(f"--communicator {name}: {error}") from error
        self.node_rank = self._communicator.intra_rank
        self.node_size = self._communicator.intra_size
        # One that left the others waiting for it in MPI would never learn what they wait for.
        signal.signal(signal.SIGINT, self._note_interrupt)

    def gather(self, value: Any) -> list[Any]:
        """Returns every process's value, by rank; together."""
        gathered: list[Any] = self._mpi.COMM_WORLD.allgather(value)
        return gathered

    def agree(self, work: Callable[[], Result]) -> Result:
        """Calls `work` in every process; where it fails in one, it fails in all; together."""
        failure: tuple[type[Exception], str] | None = None
        try:
            result = work()
        except InputError as error:
            failure = InputError, str(error)
        except (swapmem.Error, OSError) as error:
            failure = Failure, str(error)
        for kind, message in filter(None, self.gather(failure)):
            self.failed_together = True
            raise kind(message)
        return result

    def average(self, array: Any) -> None:
        """Replaces an array of float32 by its mean over the processes; together."""
        with self.pinned(array):
            if isinstance(array, np.ndarray):
                self._average_on_host(array)
            else:
                values = chainer.get_device("@numpy").send(array)
                self._average_on_host(values)
                array.set(values)

    def average_gradients(self, model: chainer.Chain) -> None:
        """Replaces every gradient by its mean over the processes; together."""
        gradients = [
            parameter.grad
            for _, parameter in sorted(model.namedparams())
            if parameter.grad is not None
        ]
        if self._on_gpus:
            with self.pinned(*gradients):
                self._communicator.multi_node_mean_grad(model)
            return
        # What naive does too, but each is in memory while MPI works on it, and only that one.
        for gradient in gradients:
            self.average(gradient)

    def _average_on_host(self, array: np.ndarray) -> None:
        self._mpi.COMM_WORLD.Allreduce(self._mpi.IN_PLACE, array)
        array *= array.dtype.type(1 / self.size)

    def stop_if_interrupted(self) -> None:
        """Raises KeyboardInterrupt in all processes if one was interrupted; together."""
        if any(self.gather(self.interrupted)):
            self.failed_together = True
            raise KeyboardInterrupt

    def end(self, status: int) -> None:
        """Ends the other processes too, after a failure that they do not know of."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            wait_until_read(stream.fileno())
        self._mpi.COMM_WORLD.Abort(status)


def wait_until_read(descriptor: int) -> None:
    """Waits until a pipe is empty; not for ever, and for nothing but a pipe.

    MPI's abort overtakes what mpiexec has not read yet: on a busy machine MPICH's lost some lines.

    Args:
        descriptor: Of what was written to.

    Raises:
        OSError: It is closed.

    Example:
        >>> wait_until_read(sys.stderr.fileno())
    """
    deadline = time.monotonic() + _READ_WITHIN_SECONDS
    unread = array.array("i", [0])
    while stat.S_ISFIFO(os.fstat(descriptor).st_mode) and time.monotonic() < deadline:
        fcntl.ioctl(descriptor, termios.FIONREAD, unread)
        if not unread[0]:
            break
        time.sleep(0.001)


def _require_launched(size: int) -> None:
    # Else each would train by itself, and all write the same files.
    started = next((int(os.environ[name]) for name in _SIZES if name in os.environ), size)
    if started != size:
        raise InputError(
            f"mpiexec started {started} processes and MPI knows of {size}: mpiexec and mpi4py "
            f"belong to different MPI libraries"
        )


def choose_communicator(name: str | None, on_gpus: bool) -> tuple[str, str]:
    """Returns the communicator to use, and what to tell the user or "".

    Args:
        name: As asked for; None for the usual one.
        on_gpus: Whether arrays are a GPU's.

    Raises:
        InputError: It needs GPUs and there are none.
    """
    usual = "pure_nccl" if on_gpus else "naive"
    if name is None:
        return usual, ""
    if name in OLD_COMMUNICATORS:
        instead = OLD_COMMUNICATORS[name] if on_gpus else "naive"
        return instead, f"--communicator {name} is no more in Chainer 7: using {instead}"
    if not on_gpus and name != "naive":
        raise InputError(f"--communicator {name} works on GPUs alone: add --gpu, or take naive")
    return name, ""
