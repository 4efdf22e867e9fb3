"""train_imagenet.py with the tests' networks, for runs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def mpi_run(processes, *arguments, cores_each=1):
    """Runs the command in so many processes of MPI, and returns how it ended.

    An argument with "{rank}" in it differs from process to process.
    """
    mpiexec = Path(sys.executable).with_name("mpiexec")
    return subprocess.run(
        [str(mpiexec), "-n", str(processes), sys.executable, __file__, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": str(cores_each), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import conftest

    from train.models import ARCHITECTURES

    ARCHITECTURES.update(tiny=conftest.Tiny, plain=conftest.Plain, wide=conftest.Wide)
    from train import train_imagenet

    rank = os.environ.get("PMI_RANK", "0")
    sys.exit(train_imagenet.main([word.replace("{rank}", rank) for word in sys.argv[1:]]))
