"""Trains a network on labelled images: in memory or out of core, in one process or several.

    python train/train_imagenet.py train.txt val.txt --arch resnet50 --root images --mean mean.npy
    python train/train_imagenet.py ... --insize 896 --ooc --device-memory 2GiB --spill-dir /nvme
    python train/train_imagenet.py ... --gpu 0 1 2 3
    mpiexec -n 4 python train/train_imagenet.py ... --communicator naive

Exit status: 0 done; 1 the run failed; 2 an option or a file cannot be used; 130 interrupted.
"""

import contextlib
import io
import os
import sys
import traceback
from pathlib import Path

if not __package__:
    # Run as a file, Python looks for modules beside it and not where the package lies.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import swapmem
from train import arguments, snapshots
from train.devices import require_gpus
from train.distributed import launched_rank
from train.errors import InputError
from train.launch import connect, launch, missing_processes
from train.parallel import ALONE, Failure, Processes
from train.run import run


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    # What MPI started says the same as often as it is there; until it is connected, too.
    silent = bool(launched_rank(os.environ))
    with contextlib.redirect_stderr(io.StringIO()) if silent else contextlib.nullcontext():
        args = arguments.parse(argv)
    processes = ALONE
    try:
        # Before processes are started that could only say the same.
        require_gpus(args.gpu)
        if count := missing_processes(args):
            return launch([__file__, *(sys.argv[1:] if argv is None else argv)], count)
        processes = connect(args)
        run(args, processes)
    except InputError as error:
        return _failed(processes, 2, f"error: {error}")
    except (swapmem.Error, OSError, Failure) as error:
        return _failed(processes, 1, f"failed: {error}")
    except KeyboardInterrupt:
        newest = snapshots.newest(args.out) or "none"
        return _failed(processes, 130, f"interrupted; the newest snapshot is {newest}")
    except Exception:
        if processes.size == 1:
            raise
        # The others would wait for this process for ever.
        traceback.print_exc()
        processes.end(1)
    return 0


def _failed(processes: Processes, status: int, message: str) -> int:
    first_of_all = processes.is_first and not launched_rank(os.environ)
    if first_of_all or (processes is not ALONE and not processes.failed_together):
        alone = processes.failed_together or processes.size == 1
        which = "" if alone else f"process {processes.rank} of {processes.size}: "
        print(f"train_imagenet.py: {which}{message}", file=sys.stderr)
    if not processes.failed_together:
        processes.end(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
