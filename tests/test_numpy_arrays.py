"""NumPy programs on arrays that come and go: the right values, within the budget."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl  # type: ignore[import-untyped]
from PIL import Image

import swapmem

MiB = 1 << 20


def filled(value: int, size_bytes: int = MiB) -> np.ndarray:
    return np.full(size_bytes, value, np.uint8)


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    with threadpoolctl.threadpool_limits(1):
        yield


def in_threads(works: list[Callable[[], None]]) -> None:
    """Runs all at once: none begins before every thread is there. Passes the first error on."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "slice": lambda a: a[7:-9],
    "reversed": lambda a: a[::-1],
    "steps": lambda a: a[3::4099],
    "transposed": lambda a: a.reshape(512, -1).T,
    "broadcast": lambda a: np.broadcast_to(a[:100], (50, 100)),
    "another type": lambda a: a.view(np.int64)[::-3],
    "indexed": lambda a: a[[0, 9, -1]],
    "masked": lambda a: a[a > 250],
    "windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, 5)[::9999],
    "field": lambda a: a.view([("x", "u1"), ("y", "u2"), ("z", "u1")])["y"],
}


@pytest.mark.parametrize("view", list(VIEWS))
def test_a_view_of_a_swapped_out_array_reads_right(memory: swapmem.Manager, view: str) -> None:
    expected = VIEWS[view](np.frombuffer(bytes(range(256)) * 4096, np.uint8)).tobytes()
    a = np.tile(np.arange(256, dtype=np.uint8), 4096)
    memory.swap_out(a).wait()
    seen = VIEWS[view](a)
    memory.swap_out(a).wait()
    assert seen.tobytes() == expected


def test_a_write_through_a_view_survives_swaps(memory: swapmem.Manager) -> None:
    a = filled(0)
    odd = a[1::2]
    for value in range(1, 4):
        memory.swap_out(a).wait()
        odd += 1
        memory.swap_out(odd).wait()
        assert int(a.max()) == value
        assert int(a.sum()) == value * MiB // 2


def test_a_view_keeps_its_array_alive(memory: swapmem.Manager) -> None:
    view = filled(5)[-3:]
    memory.swap_out(view).wait()
    assert view.tolist() == [5, 5, 5]


@pytest.mark.parametrize("swap", [False, True])
def test_zeros_are_zero_on_memory_that_was_dirty(memory: swapmem.Manager, swap: bool) -> None:
    for _ in range(3):
        dirty = [filled(255) for _ in range(6)]
        if swap:
            for array in dirty:
                memory.swap_out(array).wait()
        del dirty
        zeros = [np.zeros(MiB - 5, np.uint8) for _ in range(10)]
        assert not any(array.any() for array in zeros)
        del zeros


@pytest.mark.parametrize("size_bytes", [100, 64 << 10, MiB, 3 * MiB // 2, 4 * MiB])
def test_resize_keeps_what_fits_and_adds_zeros(memory: swapmem.Manager, size_bytes: int) -> None:
    a = np.tile(np.arange(256, dtype=np.uint8), 4096).copy()
    memory.swap_out(a).wait()
    a.resize(size_bytes, refcheck=False)
    kept = min(MiB, size_bytes)
    assert np.array_equal(a[:kept], np.tile(np.arange(256, dtype=np.uint8), 4096)[:kept])
    assert not a[kept:].any()
    assert (memory.block(a) is None) == (size_bytes < 64 << 10)


def test_a_small_array_that_grows_becomes_a_block(memory: swapmem.Manager) -> None:
    a = np.arange(10)
    assert memory.block(a) is None
    a.resize(1 << 17, refcheck=False)
    assert memory.block(a) is not None
    memory.swap_out(a).wait()
    assert a[:10].tolist() == list(range(10))
    assert not a[10:].any()


def test_blas_works_on_swapped_out_operands(memory: swapmem.Manager) -> None:
    left, right = np.random.default_rng(1).integers(-8, 8, (2, 256, 256)).astype(np.float64)
    a, b = left.copy(), right.copy()
    product, out = left @ right, np.empty((256, 256))
    for array in (a, b, out):
        memory.swap_out(array).wait()
    np.matmul(a, b, out=out)
    assert np.array_equal(out, product)
    for array in (a, b):
        memory.swap_out(array).wait()
    assert np.array_equal(np.linalg.solve(a.T @ a + np.eye(256), b).shape, (256, 256))


def test_pillow_works_on_swapped_out_arrays(memory: swapmem.Manager) -> None:
    pixels = np.arange(512 * 512 * 3, dtype=np.uint32).astype(np.uint8).reshape(512, 512, 3)
    expected = pixels.tobytes()
    memory.swap_out(pixels).wait()
    image = Image.fromarray(pixels)
    assert image.tobytes() == expected
    back = np.asarray(image.resize((256, 256), Image.Resampling.NEAREST))
    assert back.shape == (256, 256, 3)
    copied = np.array(image)
    memory.swap_out(copied).wait()
    assert copied.tobytes() == expected


@pytest.mark.parametrize("count", [2, 8])
def test_threads_touch_the_same_swapped_out_array(memory: swapmem.Manager, count: int) -> None:
    a = filled(3)

    def add(part: int) -> None:
        a[part::count] += part

    for _ in range(10):
        a.fill(3)
        memory.swap_out(a).wait()
        in_threads([lambda part=part: add(part) for part in range(count)])  # type: ignore[misc]
        assert all(np.all(a[part::count] == 3 + part) for part in range(count))
    memory.engine.check_invariants()


def test_threads_touch_different_swapped_out_arrays_within_the_budget(
    memory: swapmem.Manager,
) -> None:
    arrays = [filled(i, MiB // 4) for i in range(80)]

    def add(part: int) -> None:
        for array in arrays[part::4]:
            array += 1

    for _ in range(3):
        in_threads([lambda part=part: add(part) for part in range(4)])  # type: ignore[misc]
    assert [int(a.min()) for a in arrays] == [int(a.max()) for a in arrays] == list(range(3, 83))
    assert memory.stats()["peak_charged_bytes"] <= 8 * MiB


def test_arrays_of_a_thread_that_takes_part_are_blocks_and_others_are_not(
    memory: swapmem.Manager,
) -> None:
    made: dict[str, np.ndarray] = {}

    def inside() -> None:
        with memory.thread():
            made["inside"] = filled(1)
        made["after"] = filled(2)

    def outside() -> None:
        made["outside"] = filled(3)

    in_threads([inside, outside])
    assert memory.block(made["inside"]) is not None
    assert memory.block(made["after"]) is None
    assert memory.block(made["outside"]) is None
    memory.swap_out(made["inside"]).wait()
    assert int(made["inside"].sum()) == MiB


def test_threads_that_make_arrays_share_one_budget(memory: swapmem.Manager) -> None:
    def work(part: int) -> None:
        with memory.thread():
            arrays = [filled(part + i, MiB // 4) for i in range(24)]
            assert [int(a[-1]) for a in arrays] == [part + i for i in range(24)]

    in_threads([lambda part=part: work(part) for part in range(4)])  # type: ignore[misc]
    memory.engine.check_invariants()
    stats = memory.stats()
    assert stats["peak_charged_bytes"] <= 8 * MiB
    assert stats["live_bytes"] == 0


def test_arrays_that_are_touched_one_after_the_other_need_only_fit_one_by_one(
    tmp_path: Path,
) -> None:
    with swapmem.Manager(device_memory=8 * MiB, spill_dir=tmp_path):
        arrays = [filled(value, 3 * MiB) for value in range(8)]
        for _ in range(4):
            assert [int(array[-1]) for array in arrays] == list(range(8))


def test_resize_keeps_the_tail_of_an_array_that_got_a_smaller_ones_block(tmp_path: Path) -> None:
    with swapmem.Manager(device_memory=8 * MiB, spill_dir=tmp_path):
        smaller = filled(1, 70_000)
        del smaller
        array = filled(2, 73_000)
        array.resize(200_000, refcheck=False)
        assert (array[:73_000] == 2).all()
        assert not array[73_000:].any()
