"""Which of Chainer's devices trains."""

from typing import Any

import chainer

from train.errors import InputError


def choose_device(gpu: int) -> Any:
    """Returns Chainer's device for a GPU and makes it the current one.

    Args:
        gpu: Number of the GPU from 0; below 0 for none, that is NumPy.

    Raises:
        InputError: There is no such GPU, or none can be used; says why.
    """
    if gpu < 0:
        return chainer.get_device("@numpy")
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
    device = chainer.get_device(f"@cupy:{gpu}")
    device.use()
    return device
