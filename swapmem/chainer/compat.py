"""Chainer 7.8.1, the last release, on today's NumPy, CuPy and Python.

Importing this module is all there is to do; ``import swapmem.chainer`` does it. Chainer itself is
not imported here: what NumPy lost is put back at once, and each correction of a Chainer module is
applied right after that module is imported (or now, if it already was). Nothing on disk changes.

One trap remains under the "spawn" start method: a child unpickles its arguments before any code of
yours runs, so the main script has to import ``swapmem.chainer`` at its top level. Under
"forkserver" the server imports this module first, whatever the script does.

Example:
    >>> import swapmem.chainer.compat
    >>> import chainer
    >>> chainer.__version__
    '7.8.1'
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import multiprocessing
import multiprocessing.forkserver
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy

_HALF_HEADER = "#include <cupy/float16.cuh>\n"


class _Overlay:
    """A module as one other module is to see it: with a few names replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _restore_numpy_names() -> None:
    """Put back numpy.float (gone in 1.24) and numpy.sctypes (gone in 2.0).

    functions/array/resize_images.py and functions/array/as_strided.py read them, the latter while
    ``import chainer`` runs.
    """
    if "float" not in vars(numpy):
        setattr(numpy, "float", float)  # noqa: B010 - NumPy's type stubs do not know the name
    if "sctypes" not in vars(numpy):
        sctypes = {
            "int": [numpy.int8, numpy.int16, numpy.int32, numpy.int64],
            "uint": [numpy.uint8, numpy.uint16, numpy.uint32, numpy.uint64],
            "float": [numpy.float16, numpy.float32, numpy.float64, numpy.longdouble],
            "complex": [numpy.complex64, numpy.complex128, numpy.clongdouble],
            "others": [bool, object, bytes, str, numpy.void],
        }
        setattr(numpy, "sctypes", sctypes)  # noqa: B010


def _stub_environment_check() -> None:
    """Replace Chainer's check of its environment by one that finds nothing wrong.

    It imports numpy.distutils (gone from Python 3.12) and pkg_resources (gone from setuptools 82),
    and warns of every CuPy newer than 7.
    """
    if "chainer" not in sys.modules:
        name = "chainer._environment_check"
        stub = types.ModuleType(name, "No checks: see swapmem.chainer.compat.")
        setattr(stub, "check", lambda: None)  # noqa: B010
        sys.modules[name] = stub


def _forget_failed_import() -> None:
    """Drop what an import of Chainer that failed before this module came has left behind.

    Python forgets the package that failed, not its submodules; the next import would mix both.
    """
    if "chainer" not in sys.modules:
        for name in [name for name in sys.modules if name.startswith("chainer.")]:
            del sys.modules[name]


def _preload_in_forkserver() -> None:
    """Have multiprocessing's fork server import this module before it forks.

    Children unpickle Chainer's objects; without the shims each child dies doing so, the pool starts
    it again for ever, and the parent hangs.
    """
    server: Any = multiprocessing.forkserver._forkserver
    names = list(server._preload_modules)
    if __name__ not in names:
        multiprocessing.set_forkserver_preload([*names, __name__])


class _ResolutionError(Exception):
    """What pkg_resources calls a requirement that is not met."""


class _WorkingSet:
    """The one use Chainer has for pkg_resources.WorkingSet."""

    def require(self, *requirements: str) -> None:
        from packaging.requirements import Requirement

        for requirement in map(Requirement, requirements):
            try:
                installed = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError as error:
                raise _ResolutionError(str(requirement)) from error
            if not requirement.specifier.contains(installed, prereleases=True):
                raise _ResolutionError(f"{requirement}, not {installed}")


def _lend_pkg_resources(execute: Callable[[], None]) -> None:
    """Import chainer.testing.helper where there is no pkg_resources (gone from setuptools 82).

    The stand-in is taken away again: other libraries look for the real one and do without.
    """
    if importlib.util.find_spec("pkg_resources") is not None:
        return execute()
    stub = types.ModuleType("pkg_resources")
    stub.__dict__.update(WorkingSet=_WorkingSet, ResolutionError=_ResolutionError)
    sys.modules["pkg_resources"] = stub
    try:
        execute()
    finally:
        del sys.modules["pkg_resources"]


def _fix_deconvolution_2d(module: Any) -> None:
    """Deconvolution2D.backward hands arrays to a method that unpacks shapes.

    A bug of 7.8.1: it shows when the gradient of the input is not asked for.
    """
    set_cover_all = module.Deconvolution2DFunction._set_cover_all

    @functools.wraps(set_cover_all)
    def fixed(self: Any, x: Any, w: Any) -> None:
        set_cover_all(self, getattr(x, "shape", x), getattr(w, "shape", w))

    module.Deconvolution2DFunction._set_cover_all = fixed


def _fix_categorical(module: Any) -> None:
    """Categorical.log_prob appends to what meshgrid returns: a tuple since NumPy 2.0."""
    module.numpy = _Overlay(numpy, meshgrid=lambda *a, **k: list(numpy.meshgrid(*a, **k)))


def _fix_multi_node_iterator(module: Any) -> None:
    """The slave takes int() of an array of shape (1,), a TypeError since NumPy 2.4.

    The slave dies of it and the master waits for ever.
    """
    module.int = lambda value: int(numpy.asarray(value).item())


def _silence_cudnn_warning(module: Any) -> None:
    """CuPy 14 has no cuDNN module; Chainer would say in every program that cuDNN is missing."""
    if module.available and module._cupy_major >= 14:
        module.check_cuda_available._already_warned = True


def _include_half_elementwise(module: Any) -> None:
    """Gather and scatter of gradients name float16, which CuPy's kernels no longer declare."""
    cuda = module.cuda
    if cuda.available:
        elementwise = functools.partial(cuda.elementwise, preamble=_HALF_HEADER)
        module.cuda = _Overlay(cuda, elementwise=elementwise)


def _include_half_raw(module: Any) -> None:
    """Packing and unpacking of parameters name half, which CuPy's kernels no longer declare."""
    cuda = module.chainer.backends.cuda
    if cuda.available:
        raw = _Overlay(cuda, raw=lambda code, name: cuda.raw(_HALF_HEADER + code, name))
        module.chainer = _Overlay(module.chainer, cuda=raw)


_CORRECTIONS: dict[str, Callable[[Any], None]] = {
    "chainer.functions.connection.deconvolution_2d": _fix_deconvolution_2d,
    "chainer.distributions.categorical": _fix_categorical,
    "chainer.backends.cuda": _silence_cudnn_warning,
    "chainer.training.updaters.multiprocess_parallel_updater": _include_half_elementwise,
    "chainermn.communicators._memory_utility": _include_half_raw,
    "chainermn.iterators.multi_node_iterator": _fix_multi_node_iterator,
}
_HELPER = "chainer.testing.helper"


class _Correct(importlib.abc.MetaPathFinder):
    """Finds the modules named above as usual and corrects each as soon as it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _CORRECTIONS and name != _HELPER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            if name == _HELPER:
                _lend_pkg_resources(lambda: execute(module))
            else:
                execute(module)
                _CORRECTIONS[name](module)

        setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec


def _apply() -> None:
    _restore_numpy_names()
    _forget_failed_import()
    _stub_environment_check()
    _preload_in_forkserver()
    for name, correct in _CORRECTIONS.items():
        if name in sys.modules:
            correct(sys.modules[name])
    sys.meta_path.insert(0, _Correct())


if not any(type(finder).__module__ == __name__ for finder in sys.meta_path):
    _apply()
