"""The allocator that a manager gives CuPy, over an engine of the host's, with CuPy's stand-in."""

import gc
import itertools
import os
import pickle
import random
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cupy_stand_in as cupy
import numpy as np
import pytest

import swapmem
from swapmem import _core, adapters

TESTS = str(Path(__file__).parent)
KiB = 1 << 10
MiB = 1 << 20
# The allocator is the same on every engine; blocks of the host's begin here.
BLOCK_BYTES = _core.min_block_bytes


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """swapmem.cupy, made with the stand-in."""
    monkeypatch.setitem(sys.modules, "cupy", cupy.make_module())
    monkeypatch.delitem(sys.modules, "swapmem.cupy", raising=False)
    monkeypatch.setattr(adapters, "_addresses", dict(adapters._addresses))
    import swapmem.cupy

    yield swapmem.cupy
    del sys.modules["swapmem.cupy"]


@pytest.fixture
def allocator(module: Any, memory: swapmem.Manager) -> Iterator[Any]:
    """Installed over the engine of a manager of 8 MiB; everything is free at the end."""
    allocator = module.Allocator(memory.engine, 0)
    allocator.install()
    yield allocator
    allocator.remove()
    gc.collect()
    allocator.trim()
    assert allocator.statistics() == {"chunk_bytes": 0, "small_bytes": 0}
    assert memory.stats()["live_bytes"] == 0
    assert cupy.get_allocator() is cupy.raw_allocator


def live_bytes(memory: swapmem.Manager) -> int:
    return int(memory.stats()["live_bytes"])


def test_a_large_array_is_a_block_until_its_last_view_is_gone(
    allocator: Any, memory: swapmem.Manager
) -> None:
    array = cupy.ndarray(MiB)
    view = array[KiB : 2 * KiB][1:]
    block = memory.engine.block(array.data.ptr)
    assert block is not None
    assert (block[1], block[2]) == (array.data.ptr, MiB)
    del array
    assert live_bytes(memory) == MiB
    del view
    assert live_bytes(memory) == 0


def test_an_array_without_elements_has_no_memory(allocator: Any, memory: swapmem.Manager) -> None:
    array = cupy.ndarray(0)
    assert (array.data.ptr, array.data.mem.size) == (0, 0)
    assert live_bytes(memory) == 0


def test_small_arrays_share_a_chunk_that_is_pinned(allocator: Any, memory: swapmem.Manager) -> None:
    arrays = [cupy.ndarray(size) for size in (1, 512, 513, 4000, BLOCK_BYTES - 1)]
    assert allocator.statistics()["chunk_bytes"] == live_bytes(memory) == 2 * MiB
    assert allocator.statistics()["small_bytes"] == sum(array.nbytes for array in arrays)
    block = memory.engine.block(arrays[0].data.ptr)
    assert block is not None
    assert block[5]
    assert all(array.data.ptr % 512 == 0 for array in arrays)


def test_a_small_array_gets_what_another_of_its_stream_gave_back(allocator: Any) -> None:
    first = cupy.ndarray(1000)
    keeps_the_chunk = cupy.ndarray(1)
    address = first.data.ptr
    del first
    assert cupy.ndarray(700).data.ptr == address
    del keeps_the_chunk


def test_the_chunk_that_became_empty_last_is_kept(allocator: Any, memory: swapmem.Manager) -> None:
    address = cupy.ndarray(1000).data.ptr
    assert live_bytes(memory) == 2 * MiB
    assert cupy.ndarray(1000).data.ptr == address
    assert allocator.trim() == 2 * MiB
    assert live_bytes(memory) == 0
    assert allocator.trim() == 0


def test_arrays_of_two_streams_share_no_chunk(allocator: Any) -> None:
    arrays = []
    # The stream is asked for at each call: what was current before is not remembered.
    for stream in (cupy.Stream(7), cupy.Stream(8), cupy.Stream(7)):
        with cupy.current(stream=stream):
            arrays.append(cupy.ndarray(1000))
    assert allocator.statistics()["chunk_bytes"] == 4 * MiB
    assert abs(arrays[2].data.ptr - arrays[0].data.ptr) == 1024


def test_a_stream_lives_as_long_as_an_array_of_it(allocator: Any) -> None:
    stream = cupy.Stream(7)
    alive = weakref.ref(stream)
    with cupy.current(stream=stream):
        arrays = [cupy.ndarray(MiB), cupy.ndarray(1000)]
    del stream
    assert alive() is not None
    arrays.clear()
    allocator.trim()
    assert alive() is None


def test_the_default_streams_of_two_threads_share_no_chunk(allocator: Any) -> None:
    arrays = []

    def allocate() -> None:
        with cupy.current(stream=cupy.Stream(2)):
            arrays.append(cupy.ndarray(1000))

    done = threading.Event()
    keep_first_alive = threading.Thread(target=lambda: (allocate(), done.wait()))
    keep_first_alive.start()
    while not arrays:
        pass
    allocate()
    done.set()
    keep_first_alive.join()
    assert allocator.statistics()["chunk_bytes"] == 4 * MiB


def test_an_array_on_another_device_is_the_previous_allocators(
    allocator: Any, memory: swapmem.Manager
) -> None:
    with cupy.current(device=1):
        array = cupy.ndarray(MiB)
    assert array.data.device_id == 1
    assert live_bytes(memory) == 0


def test_what_was_set_on_top_stays_and_the_one_below_passes_on(
    module: Any, memory: swapmem.Manager
) -> None:
    below = module.Allocator(memory.engine, 0)
    below.install()
    function = cupy.get_allocator()

    def on_top(size: int) -> cupy.MemoryPointer:
        return function(size)

    cupy.set_allocator(on_top)
    below.remove()
    assert cupy.get_allocator() is on_top
    assert cupy.ndarray(MiB).data.mem._owner is None
    assert live_bytes(memory) == 0
    cupy.set_allocator(None)


def test_inside_using_allocator_nothing_can_be_installed(
    module: Any, memory: swapmem.Manager
) -> None:
    allocator = module.Allocator(memory.engine, 0)
    with (
        cupy.using_allocator(cupy.raw_allocator),
        pytest.raises(swapmem.Error, match="using_allocator"),
    ):
        allocator.install()
    assert cupy.get_allocator() is cupy.raw_allocator


def test_out_of_memory_is_cupys_error_and_ours_with_numbers(
    allocator: Any, memory: swapmem.Manager
) -> None:
    with pytest.raises(cupy.OutOfMemoryError) as caught:
        cupy.ndarray(64 * MiB)
    error: Any = caught.value
    assert isinstance(error, swapmem.OutOfMemory)
    assert error.requested_bytes >= 64 * MiB
    assert error.budget_bytes == 8 * MiB
    assert str(error) != ""
    copy = pickle.loads(pickle.dumps(error))
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_memory_in_reference_cycles_is_collected_before_giving_up(
    allocator: Any, memory: swapmem.Manager
) -> None:
    gc.disable()
    try:
        cycle: list[Any] = []
        array = cupy.ndarray(6 * MiB)
        cycle.extend([array, cycle])
        del array, cycle
        assert live_bytes(memory) == 6 * MiB
        with pytest.raises(cupy.OutOfMemoryError):
            cupy.ndarray(9 * MiB)
        assert live_bytes(memory) == 0
    finally:
        gc.enable()


def test_arrays_may_end_in_other_threads(allocator: Any, memory: swapmem.Manager) -> None:
    arrays = [cupy.ndarray(size) for size in (100, 1000, MiB, 100_000) for _ in range(2)]
    threads = [threading.Thread(target=arrays.pop) for _ in range(len(arrays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert allocator.statistics()["small_bytes"] == 0


def test_threads_allocate_and_free_at_once(allocator: Any, memory: swapmem.Manager) -> None:
    errors = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        arrays: list[cupy.ndarray] = []
        try:
            with cupy.current(stream=cupy.Stream(seed % 2)):
                for _ in range(400):
                    if arrays and rng.random() < 0.5:
                        arrays.pop(rng.randrange(len(arrays)))
                    elif len(arrays) < 20:
                        arrays.append(cupy.ndarray(rng.choice((1, 600, 5000, 70_000))))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    memory.engine.check_invariants()


@pytest.mark.parametrize("seed", range(5))
def test_no_two_small_arrays_overlap_and_all_memory_comes_back(
    seed: int, allocator: Any, memory: swapmem.Manager
) -> None:
    rng = random.Random(seed)
    arrays: list[cupy.ndarray] = []
    for step in range(600):
        if arrays and rng.random() < 0.45:
            arrays.pop(rng.randrange(len(arrays)))
        elif sum(array.nbytes for array in arrays) < 2 * MiB:
            size = min(BLOCK_BYTES - 1, max(1, int(2 ** rng.uniform(0, 16))))
            arrays.append(cupy.ndarray(size))
        if step % 20 == 0:
            spans = sorted((array.data.ptr, array.data.ptr + array.nbytes) for array in arrays)
            pairs = itertools.pairwise(spans)
            assert all(one[1] <= other[0] for one, other in pairs), f"seed {seed}, step {step}"
            total = sum(array.nbytes for array in arrays)
            assert allocator.statistics()["small_bytes"] == total
    arrays.clear()
    assert allocator.statistics()["small_bytes"] == 0


def test_the_manager_finds_the_block_of_an_array_and_of_its_views(
    allocator: Any, memory: swapmem.Manager
) -> None:
    array = cupy.ndarray(MiB)
    view = array[1000:]
    block = memory.block(view)
    assert block is not None
    assert block.address == array.data.ptr
    memory.check(array, view)
    memory.swap_out(view).wait()
    assert memory.block(array).state == "out"  # type: ignore[union-attr]
    with pytest.raises(swapmem.InvalidBlock, match=r"1.0 MiB is swapped out.*swap_in"):
        memory.check(view)
    memory.swap_in(array).wait()
    memory.pin(array)
    assert memory.block(view).pinned  # type: ignore[union-attr]
    memory.unpin(view)


def test_small_and_foreign_arrays_have_no_block(allocator: Any, memory: swapmem.Manager) -> None:
    small = cupy.ndarray(1000)
    foreign = cupy.ndarray(MiB, cupy.raw_allocator(MiB))
    for array in (small, foreign):
        assert memory.block(array) is None
        with pytest.raises(swapmem.InvalidBlock):
            memory.swap_out(array)
        with memory.pinned(array):
            pass
    with pytest.raises(swapmem.InvalidBlock, match=r"known kind.*ndarray.*: builtins.list"):
        memory.block([])
    assert memory.block(np.zeros(3)) is None


PROGRAM = """
import sys
import cupy_stand_in
sys.modules["cupy"] = cupy_stand_in.make_module()
import swapmem, swapmem.cupy
memory = swapmem.Manager(device_memory="8MiB", spill_dir=sys.argv[1]).__enter__()
allocator = swapmem.cupy.Allocator(memory.engine, 0)
allocator.install()
arrays = [cupy_stand_in.ndarray(size) for size in (0, 100, 1 << 20)]
cycle = [arrays]
cycle.append(cycle)
"""


def test_arrays_may_be_alive_when_the_interpreter_ends(run_python: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, *sys.path]))
    result = run_python(PROGRAM)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_forked_child_lets_arrays_go_and_is_told_why_it_gets_none(
    run_python: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, *sys.path]))
    # From Python 3.12 on it warns of threads, of which the engine has some.
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::DeprecationWarning")
    result = run_python(
        PROGRAM
        + """
import os
if os.fork() == 0:
    arrays.clear()
    try:
        cupy_stand_in.ndarray(1 << 20)
    except swapmem.DeviceError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
arrays.append(cupy_stand_in.ndarray(1 << 20))
"""
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "forkserver" in result.stdout
