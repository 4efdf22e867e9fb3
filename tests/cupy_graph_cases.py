"""Chainer's graph over CuPy's own arrays, without a GPU: run by test_cupy_classes.

No kernel runs: the functions make arrays and leave them as they are. The engine is over RAM, keeps
to a GPU's rules and swaps out after each operation whatever was offered.
"""

# ruff: noqa: E402 - Chainer is imported after what it looks for.

import contextlib
import gc
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cupy
import pytest

# Chainer asks for these at its import and uses none of them here; they need CUDA's libraries.
for _name in ("cupy.cuda.cublas", "cupyx.scipy.linalg", "cupyx.scipy.special"):
    try:
        __import__(_name)
    except ImportError:
        _package, _, _attribute = _name.rpartition(".")
        sys.modules[_name] = types.ModuleType(_name)
        with contextlib.suppress(ImportError):
            __import__(_package)
            setattr(sys.modules[_package], _attribute, sys.modules[_name])

import swapmem.chainer  # isort: skip
import chainer  # isort: skip

import swapmem.cupy
from swapmem import _core

MiB = 1 << 20


class FakeStream:
    ptr = 0


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[swapmem.Manager]:
    monkeypatch.setattr(_core, "host_engine", _core.rehearsal_engine)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 0)
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda device=-1: FakeStream())
    # Chainer would make a device current that is not there.
    cpu = chainer.backend.CpuDevice()
    monkeypatch.setattr(chainer.backend, "get_device_from_array", lambda *arrays: cpu)
    with swapmem.Manager("host", "64MiB", tmp_path, paranoid=True) as manager:
        allocator = swapmem.cupy.Allocator(manager.engine, 0)
        allocator.install()
        yield manager
        allocator.remove()
        gc.collect()
        assert manager.stats()["live_bytes"] == 0
    assert manager.faults() == []


def floats() -> Any:
    return cupy.ndarray((MiB // 4,), cupy.float32)


def make_function() -> Any:
    """A function that keeps its input, its output and an attribute, and computes nothing."""

    class Keeps(chainer.FunctionNode):
        def forward(self, inputs: Any) -> Any:
            self.retain_inputs((0,))
            self.retain_outputs((0,))
            self.mask = floats()
            return (floats(),)

        def backward(self, indexes: Any, gradients: Any) -> Any:
            # In memory now, all of it.
            kept = [self.get_retained_inputs()[0].array, self.output_data[0], self.mask]
            announced.append([memory_of(one) for one in kept])
            return (chainer.Variable(floats()),)

    return Keeps()


announced: list[list[str]] = []
state_of: list[Any] = []


def memory_of(one: Any) -> str:
    state = state_of[0](one).state
    return "there" if state in ("resident", "cleaning", "clean") else str(state)


def test_what_only_the_graph_has_is_swapped_out_and_announced(memory: swapmem.Manager) -> None:
    announced.clear()
    state_of[:] = [memory.block]
    x = chainer.Variable(floats())
    first = make_function()
    y = first.apply((x,))[0]
    hidden = weakref.ref(y)
    for _ in range(3):
        y = make_function().apply((y,))[0]
    assert hidden() is None
    assert memory.block(first.mask).state == "out"  # type: ignore[union-attr]
    assert memory_of(x.array) == "there"
    assert memory_of(y.array) == "there"
    del first
    y.grad_var = chainer.Variable(floats())
    y.backward()
    assert announced == [["there"] * 3] * 4
    assert memory.stats()["swap_in_count"] >= 6
    del x, y
    gc.collect()


@pytest.mark.parametrize("keep", ["array", "view", "pointer", "memory"])
def test_what_is_kept_elsewhere_stays(keep: str, memory: swapmem.Manager) -> None:
    y = make_function().apply((chainer.Variable(floats()),))[0]
    one = y.array
    address = one.data.ptr
    kept = {"array": one, "view": one[3:], "pointer": one.data, "memory": one.data.mem}[keep]
    del one
    for _ in range(3):
        y = make_function().apply((y,))[0]
    assert memory.engine.block(address)[3] == "resident"  # type: ignore[index]
    del kept
    for _ in range(3):
        y = make_function().apply((y,))[0]
    assert memory.engine.block(address)[3] == "out"  # type: ignore[index]
    del y
