"""The versions that a job runs with, for its log.

Run as a file, since importing this package would load all of Chainer first.
"""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

_PACKAGES = ("swapmem", "chainer", "numpy", "pillow", "cupy-cuda13x", "cupy-cuda12x", "mpi4py")


def versions() -> Iterator[str]:
    """Yields a line for Python and for each package that matters and is installed."""
    yield f"python {platform.python_version()} {sys.executable}"
    for name in _PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


if __name__ == "__main__":
    print("\n".join(versions()))
