"""Builds the extension swapmem._core with CMake; everything else stands in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeExtension(Extension):
    """An extension whose sources CMakeLists.txt names."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Runs CMake for the interpreter that runs this script."""

    def build_extension(self, ext: Extension) -> None:
        """Configures and builds in build_temp; the module goes where setuptools wants it."""
        if shutil.which("c++") is None and shutil.which("g++") is None:
            sys.exit("swapmem needs a C++20 compiler: apt-get install g++ (GCC 12 or later)")
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            "-DSWAPMEM_PYTHON=ON",
        ]
        subprocess.run(["cmake", "-G", "Ninja", str(ROOT), *configure], cwd=build, check=True)
        subprocess.run(["cmake", "--build", "."], cwd=build, check=True)


setup(ext_modules=[CMakeExtension("swapmem._core")], cmdclass={"build_ext": CMakeBuild})
