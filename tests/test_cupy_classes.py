"""CuPy's own classes over blocks, as far as they go without a GPU: memory, views, a graph.

No kernel runs. The device and the stream are said to be 0, and the engine is over RAM.
"""

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import swapmem

cupy = pytest.importorskip("cupy", reason="needs CuPy 13 or 14; the stand-in covers the logic")

MiB = 1 << 20


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[swapmem.Manager]:
    """A manager whose engine and allocator CuPy's arrays use."""
    import swapmem.cupy

    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 0)
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda device=-1: FakeStream())
    before = cupy.cuda.get_allocator()
    with swapmem.Manager("host", "64MiB", tmp_path) as manager:
        allocator = swapmem.cupy.Allocator(manager.engine, 0)
        allocator.install()
        yield manager
        allocator.remove()
        gc.collect()
        allocator.trim()
        assert manager.stats()["live_bytes"] == 0
    assert cupy.cuda.get_allocator() is before


class FakeStream:
    ptr = 0


def array(size_bytes: int = MiB) -> Any:
    return cupy.ndarray((size_bytes,), cupy.uint8)


def live_bytes(memory: swapmem.Manager) -> int:
    return int(memory.stats()["live_bytes"])


def test_memory_is_free_with_the_last_view(memory: swapmem.Manager) -> None:
    whole = array()
    view = whole.reshape(1024, 1024)[3:, ::-1].T
    assert memory.block(view) == memory.block(whole)
    assert memory.block(view).address == whole.data.ptr  # type: ignore[union-attr]
    del whole
    assert live_bytes(memory) == MiB
    thread = threading.Thread(target=[view].clear)
    del view
    thread.start()
    thread.join()
    del thread
    assert live_bytes(memory) == 0


def test_empty_and_small_arrays_are_no_blocks(memory: swapmem.Manager) -> None:
    arrays = [array(0), array(1), array(1000)]
    assert [memory.block(one) for one in arrays] == [None] * 3
    assert arrays[0].data.mem.size == 0
    assert live_bytes(memory) == 2 * MiB


def test_what_is_too_large_is_cupys_error(memory: swapmem.Manager) -> None:
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError) as caught:
        array(65 * MiB)
    assert isinstance(caught.value, swapmem.OutOfMemory)


def test_arrays_swap_by_name(memory: swapmem.Manager) -> None:
    one = array()
    address = one.data.ptr
    memory.swap_out(one[5:]).wait()
    with pytest.raises(swapmem.InvalidBlock, match="swapped out"):
        memory.check(one)
    memory.swap_in(one).wait()
    memory.check(one)
    assert one.data.ptr == address


def test_what_only_a_graph_has_is_swapped_out_and_announced(tmp_path: Path) -> None:
    # In a process of its own: Chainer looks for CuPy when it is imported.
    cases = Path(__file__).parent / "cupy_graph_cases.py"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
