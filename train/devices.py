"""Which of Chainer's devices trains, and in how much memory."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import chainer
import numpy as np

import swapmem
from swapmem.devices import default_pinned_bytes, default_ram_budget_bytes
from swapmem.sizes import parse_bytes
from train.errors import InputError
from train.parallel import ALONE, Processes


def require_gpus(gpus: list[int]) -> None:
    """Looks whether there are such GPUs on this machine.

    Args:
        gpus: Their numbers, from 0.

    Raises:
        InputError: There is no such GPU, or none can be used; says why.
    """
    for gpu in gpus:
        # Chainer calls CUDA available wherever CuPy is installed, with or without a GPU.
        try:
            import cupy

            count = cupy.cuda.runtime.getDeviceCount()
        except ImportError as error:
            raise InputError(f"--gpu {gpu}: CuPy cannot be imported: {error}") from error
        except RuntimeError as error:  # CUDARuntimeError: no driver, or one that is too old
            raise InputError(f"--gpu {gpu}: no GPU can be used here: {error}") from error
        if gpu >= count:
            raise InputError(f"--gpu {gpu}: this machine has {count} GPUs, counted from 0")


def choose_device(gpus: list[int], processes: Processes = ALONE) -> Any:
    """Returns the device of Chainer's that this process trains on and makes it the current one.

    Args:
        gpus: Numbers of the GPUs of this machine, from 0; empty for none, that is NumPy.
        processes: The processes of a machine take one GPU each, in this order.

    Raises:
        InputError: There is no such GPU, none can be used, or there are fewer than processes;
            says why.
    """
    if not gpus:
        return chainer.get_device("@numpy")
    require_gpus(gpus)
    if processes.node_size > len(gpus):
        raise InputError(
            f"--gpu names {len(gpus)} GPUs and {processes.node_size} processes run on this "
            f"machine: name one for each"
        )
    device = chainer.get_device(f"@cupy:{gpus[processes.node_rank]}")
    device.use()
    return device


def memory_options(
    args: Namespace, device: Any, processes: Processes = ALONE
) -> dict[str, Any] | None:
    """Returns what a :class:`swapmem.Manager` is to be made with; None without ``--ooc``.

    What lies in the machine's RAM is divided by its processes: the budget where there is no GPU,
    and what is swapped out where there is one. Every process asks before any makes its manager,
    which takes of what is available.

    Args:
        args: ``ooc``, ``device_memory``, ``host_memory`` and ``spill_dir``.
        device: Chainer's device.
        processes: Those of this machine.

    Returns:
        The manager's arguments; sizes are in bytes where they are divided, otherwise as they were
        given, None for the manager's own defaults.

    Raises:
        InputError: A size is none.
    """
    if args.ooc is None:
        return None
    options = {"spill_dir": args.spill_dir, "plan": args.ooc}
    if device.xp is np:
        share = _share("--device-memory", args.device_memory, default_ram_budget_bytes, processes)
        return {**options, "device": "host", "device_memory": share}
    share = _share("--host-memory", args.host_memory, default_pinned_bytes, processes)
    name = f"cuda:{device.device.id}"
    return {
        **options, "device": name, "device_memory": args.device_memory, "host_memory": share,
    }  # fmt: skip


def _share(
    option: str, size: str | None, default_bytes: Callable[[], int], processes: Processes
) -> Any:
    if processes.node_size == 1:
        return size  # the manager knows its defaults
    try:
        size_bytes = default_bytes() if size is None else parse_bytes(size)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from error
    return size_bytes // processes.node_size


def make_manager(options: dict[str, Any] | None) -> swapmem.Manager | None:
    """Makes the memory manager; None for None.

    Raises:
        InputError: A size or the directory cannot be.
    """
    if options is None:
        return None
    import swapmem.chainer  # announces Chainer's arrays to the manager

    try:
        return swapmem.Manager(**options)
    except (ValueError, OSError, swapmem.Error) as error:
        raise InputError(f"--device-memory, --host-memory or --spill-dir: {error}") from error
