"""Which processes a run has, and how those of one machine are started."""

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from train import distributed
from train.dataset_workers import start_server
from train.errors import InputError
from train.parallel import ALONE, Processes


def missing_processes(args: Namespace) -> int:
    """Returns how many processes have to be started; 0 if those that are wanted run.

    Args:
        args: ``gpu``, ``processes``.
    """
    wanted = len(args.gpu) or args.processes or 1
    return wanted if wanted > 1 and distributed.launched_rank(os.environ) is None else 0


def connect(args: Namespace) -> Processes:
    """Returns the processes that train together, this one among them.

    Args:
        args: ``communicator``, ``gpu``, ``iterator``.

    Raises:
        InputError: MPI is missing, or the communicator cannot be.
    """
    if not args.communicator and distributed.launched_rank(os.environ) is None:
        return ALONE
    if args.iterator == "process":
        # Started before MPI is: what is forked later would have a half of MPI in it.
        start_server()
    return distributed.MPIProcesses(args.communicator, bool(args.gpu))


def require_processes(args: Namespace, processes: Processes) -> None:
    """Looks whether as many processes run as were asked for.

    Raises:
        InputError: MPI started another number.
    """
    if args.processes not in (None, processes.node_size):
        raise InputError(
            f"--processes {args.processes}, but MPI started {processes.node_size} on this machine"
        )


def launch(command: list[str], processes: int) -> int:
    """Runs a Python program in several processes of one MPI job, and waits for them.

    Args:
        command: The program's file and its arguments.
        processes: How many.

    Returns:
        The exit status: the highest of theirs, or mpiexec's own.

    Raises:
        InputError: There is no mpiexec.
    """
    call = [_find_mpiexec(), "-n", str(processes), sys.executable, *command]
    # Each would start a thread for every core.
    threads = max(len(os.sched_getaffinity(0)) // processes, 1)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    with subprocess.Popen(call, env=environment) as job:
        while True:
            try:
                return job.wait()
            except KeyboardInterrupt:
                # The terminal told mpiexec too, which ends the processes; they have a last word.
                continue


def _find_mpiexec() -> str:
    # The one that belongs to this Python's MPI, if there is one, comes first.
    beside = Path(sys.executable).parent
    path = os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])
    found = shutil.which("mpiexec", path=path)
    if found is None:
        raise InputError(
            "several processes need mpiexec: pip install 'swapmem[mpi]', or the system's MPI "
            "(apt install mpich)"
        )
    return found
