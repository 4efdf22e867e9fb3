"""Chainer, out of core: import this module, and every manager knows Chainer's operations.

Also brings Chainer 7.8.1 to today's NumPy, CuPy and Python (see swapmem.chainer.compat), so import
it before chainer, at the top of the main script. Managers that were entered before the import
know nothing of Chainer.

Example:
    >>> import swapmem.chainer
    >>> import chainer
    >>> with swapmem.Manager(device="host", device_memory="2GiB") as memory:
    ...     trainer.run()
"""

# Before anything that imports Chainer: without it the import fails.
from swapmem.chainer import compat as compat  # isort: skip

try:
    import chainer as _chainer
except ModuleNotFoundError as error:
    if error.name != "chainer":
        raise
    raise ImportError(
        "swapmem.chainer needs Chainer 7.8.1: pip install 'swapmem[chainer]' with "
        "PIP_BUILD_CONSTRAINT naming a file that says setuptools<82 (see README.md)"
    ) from error
del _chainer

from swapmem import Manager, adapters  # noqa: E402
from swapmem.chainer.hooks import OpHook  # noqa: E402
from swapmem.chainer.once import BackwardOnce, BackwardTwice  # noqa: E402
from swapmem.chainer.undeclared import (  # noqa: E402
    ParanoidHook,
    Undeclared,
    undeclared,
    undeclared_report,
)

__all__ = [
    "BackwardOnce",
    "BackwardTwice",
    "OpHook",
    "ParanoidHook",
    "Undeclared",
    "compat",
    "undeclared",
    "undeclared_report",
]


def _hook_of(manager: Manager) -> OpHook:
    return ParanoidHook(manager) if manager.paranoid else OpHook(manager)


adapters.register(_hook_of)
