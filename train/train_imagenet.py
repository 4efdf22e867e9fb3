"""Trains a network on labelled images: in memory or out of core, in one process or several.

    python train/train_imagenet.py train.txt val.txt --arch resnet50 --root images --mean mean.npy
    python train/train_imagenet.py ... --insize 896 --ooc --device-memory 2GiB --spill-dir /nvme
    python train/train_imagenet.py ... --gpu 0 1 2 3
    mpiexec -n 4 python train/train_imagenet.py ... --communicator naive

Exit status: 0 done; 1 the run failed; 2 an option or a file cannot be used; 130 interrupted.
"""

import sys
import traceback
from argparse import Namespace
from pathlib import Path

if not __package__:
    # Run as a file, Python looks for modules beside it and not where the package lies.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import swapmem
from train import arguments, snapshots
from train.errors import InputError
from train.launch import connect, launch, missing_processes
from train.parallel import ALONE, Failure, Processes
from train.run import run


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = arguments.parse(argv)
    processes = ALONE
    try:
        if count := missing_processes(args):
            return launch([__file__, *(sys.argv[1:] if argv is None else argv)], count)
        processes = connect(args)
        run(args, processes)
    except InputError as error:
        return _failed(processes, 2, f"error: {error}")
    except (swapmem.Error, OSError, Failure) as error:
        return _failed(processes, 1, f"failed: {error}")
    except KeyboardInterrupt:
        return _interrupted(args, processes)
    except Exception:
        if processes.size == 1:
            raise
        # The others would wait for this process for ever.
        traceback.print_exc()
        processes.end(1)
    return 0


def _failed(processes: Processes, status: int, message: str) -> int:
    if processes.failed_together:
        if processes.is_first:
            print(f"train_imagenet.py: {message}", file=sys.stderr)
        return status
    which = f"process {processes.rank} of {processes.size}: " if processes.size > 1 else ""
    print(f"train_imagenet.py: {which}{message}", file=sys.stderr)
    processes.end(status)
    return status


def _interrupted(args: Namespace, processes: Processes) -> int:
    if processes.is_first:
        newest = snapshots.newest(args.out) or "none"
        print(f"train_imagenet.py: interrupted; the newest snapshot is {newest}", file=sys.stderr)
    processes.end(130)
    return 130


if __name__ == "__main__":
    sys.exit(main())
