"""Runs what depends on versions with an oldest and a newest pair of Python and NumPy, and of CuPy.

Every pair gets an environment of its own in ``build/pairs``. A Python that is not here is said in
a line and counts as neither passed nor failed; if none is here, that is a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# NumPy's memory handler, Chainer's shims, what is proven by counting references or read from
# Chainer's heap, random numbers, and training that is bit for bit the same out of core.
NUMPY_TESTS = [
    "tests/test_numpy_arrays.py",
    "tests/test_numpy_lifetimes.py",
    "tests/chainer/test_chainer_compat.py",
    "tests/chainer/test_chainer_eligible.py",
    "tests/chainer/test_chainer_passes.py",
    "tests/chainer/test_chainer_recompute_draws.py",
    "tests/train/test_train_out_of_core.py",
]
# CuPy's own classes, as far as they go without a GPU.
CUPY_TESTS = ["tests/test_cupy_classes.py"]

# Python, what pip is asked for beside the package, and what is run: the oldest of both that
# pyproject.toml allows, and the newest NumPy and CuPy there are.
PAIRS = [
    ("3.11", "numpy==1.26.0", NUMPY_TESTS),
    ("3.12", "numpy", NUMPY_TESTS),
    ("3.13", "numpy", NUMPY_TESTS),
    ("3.11", "cupy-cuda12x==13.6.0", CUPY_TESTS),
    ("3.11", "cupy-cuda13x", CUPY_TESTS),
]


def interpreter(version: str) -> str | None:
    """A Python of this version that starts: from the PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}")]
    found += [str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    for path in found:
        # One of pyenv's on the PATH may only say that it is not chosen.
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None


def install(python: str, environment: Path, package: str) -> Path:
    """The Python of an environment that has swapmem, its tests' tools and this package."""
    subprocess.run([python, "-m", "venv", environment], check=True)
    own = environment / "bin/python"
    pip = [own, "-m", "pip", "install", "--quiet", "--upgrade"]
    subprocess.run([*pip, "pip>=25.3"], check=True)
    constraint = ["--build-constraint", ROOT / "build-constraints.txt"]
    subprocess.run([*pip, *constraint, "--editable", f"{ROOT}[test]", package], check=True)
    return own


def passes(version: str, package: str, tests: list[str], python: str) -> bool:
    try:
        own = install(python, ROOT / "build/pairs" / f"python{version}-{package}", package)
        before = os.times()
        subprocess.run(
            [own, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *tests], check=True
        )
    except subprocess.CalledProcessError as error:
        print(f"Python {version} with {package}: FAILED: {error}", flush=True)
        return False
    after = os.times()
    seconds = sum(after[2:4]) - sum(before[2:4])
    print(f"Python {version} with {package}: passed in {seconds:.0f} s of CPU", flush=True)
    return True


def main() -> int:
    os.chdir(ROOT)
    results = []
    for version, package, tests in PAIRS:
        python = interpreter(version)
        if python is None:
            print(f"Python {version} is not here: not tested with {package}", flush=True)
            continue
        results.append(passes(version, package, tests, python))
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
