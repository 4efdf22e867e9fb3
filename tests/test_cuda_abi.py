"""csrc/cuda/abi.h and the plain driver of `swapmem bench` beside CUDA's own header.

The header comes from a package of the test tools: nothing of CUDA is needed to build, and none of
it is installed with the package.
"""

import ctypes
import importlib.metadata
import os
import re
import subprocess
from pathlib import Path

import pytest

from swapmem.cli import raw_driver

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nvidia-cuda-runtime-cu12"
# Names of the header for what raw_driver.py calls otherwise.
RAW = {
    "CU_STREAM_NON_BLOCKING": raw_driver._NON_BLOCKING,
    "CU_MEMHOSTREGISTER_PORTABLE": raw_driver._PORTABLE,
    "CU_MEMHOSTALLOC_PORTABLE": raw_driver._PORTABLE,
    "CU_MEM_ALLOCATION_TYPE_PINNED": raw_driver._PINNED_ON_DEVICE,
    "CU_MEM_LOCATION_TYPE_DEVICE": raw_driver._PINNED_ON_DEVICE,
    "CU_MEM_ACCESS_FLAGS_PROT_READWRITE": raw_driver._READ_WRITE,
    "sizeof(CUmemAllocationProp)": ctypes.sizeof(raw_driver._Properties),
    "sizeof(CUmemAccessDesc)": ctypes.sizeof(raw_driver._Access),
}


@pytest.fixture(scope="module")
def include() -> Path:
    """The folder that cuda.h is in."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {PACKAGE}, which is there for x86-64 alone")
    return next(Path(file.locate()) for file in files if file.name == "cuda.h").parent


def constants() -> dict[str, int]:
    """What abi.h says that the driver's constants are."""
    text = (ROOT / "csrc/cuda/abi.h").read_text()
    return {name: int(value) for name, value in re.findall(r"\b(CU\w+) = (\d+)", text)}


def errors(include: Path, folder: Path, values: dict[str, int]) -> str:
    """What the compiler has against abi_check.cpp and these values."""
    source = folder / "check.cpp"
    lines = [f'#include "{ROOT}/tests/cpp/abi_check.cpp"']
    lines += [
        f'static_assert(static_cast<long long>({name}) == {value}, "{name}");'
        for name, value in values.items()
    ]
    source.write_text("\n".join(lines))
    folders = [f"-I{ROOT / 'csrc'}", f"-I{include}"]
    compiler = os.environ.get("CXX") or "c++"
    command = [compiler, "-std=c++20", "-fsyntax-only", *folders, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == (done.stderr.count("error") == 0)
    return done.stderr


def test_all_that_is_said_of_the_driver_is_so_in_its_header(include: Path, tmp_path: Path) -> None:
    said = constants()
    assert len(said) > 70
    assert errors(include, tmp_path, said) == ""
    assert errors(include, tmp_path, RAW) == ""


def test_a_constant_that_differs_is_told_by_its_name(include: Path, tmp_path: Path) -> None:
    said = constants() | {"CUDA_ERROR_NOT_READY": 34}
    assert "CUDA_ERROR_NOT_READY" in errors(include, tmp_path, said)
