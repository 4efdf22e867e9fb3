"""Managers on a CUDA device: which one, how much of it, and CuPy's arrays in it.

On the fake driver, with a stand-in for CuPy. The fake driver ends a program with status 97 that did
anything a real one would not forgive.
"""

from pathlib import Path

import pytest
from fake_cuda import PYTHONPATH, run_on_fake_driver, run_python

import swapmem
from swapmem import _core, devices

BEGIN = """
import ctypes, sys
import numpy as np
import cupy_stand_in as cupy
sys.modules["cupy"] = cupy.make_module()
import swapmem
MiB = 1 << 20

def bytes_of(array):
    return np.frombuffer((ctypes.c_uint8 * array.nbytes).from_address(array.data.ptr), np.uint8)
"""


def run(tmp_path: Path, program: str) -> str:
    """What a program prints on the fake driver; it must end well and say nothing else."""
    result = run_on_fake_driver("-W", "error", "-c", BEGIN + program, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_arrays_swap_over_pinned_memory_and_keep_bytes_and_addresses(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with swapmem.Manager("cuda:0", "64MiB", host_memory="128MiB") as memory:
    arrays = []
    for number in range(24):
        array = cupy.ndarray(4 * MiB)
        bytes_of(array)[:] = number
        memory.swap_out(array).wait()
        assert memory.block(array).state == "out"
        arrays.append((array, array.data.ptr))
    for number, (array, address) in enumerate(arrays):
        memory.swap_in(array).wait()
        memory.check(array)
        assert array.data.ptr == address
        assert (bytes_of(array) == number).all()
        memory.swap_out(array[5:]).wait()
    stats = memory.stats()
    assert stats["peak_charged_bytes"] <= 64 * MiB
    assert stats["live_bytes"] == 96 * MiB
    assert [tier["name"] for tier in stats["store_tiers"]] == ["pinned"]
    assert stats["store_tiers"][0]["used_bytes"] == 96 * MiB
    del array, arrays
    memory.drain()
    assert memory.stats()["live_bytes"] == memory.stats()["store_bytes"] == 0
    assert "device   cuda:0" in memory.report()
""",
    )


def test_a_large_array_is_one_array_though_its_parts_move_each_for_itself(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with swapmem.Manager("cuda:0", "320MiB", host_memory="448MiB") as memory:
    array = cupy.ndarray(300 * MiB)
    address = array.data.ptr
    for part in range(6):
        bytes_of(array)[part * 50 * MiB :][:MiB] = part + 1
    memory.swap_out(array[5:]).wait()
    block = memory.block(array)
    assert (block.state, block.bytes) == ("out", 300 * MiB)
    assert memory.stats()["swap_out_count"] == 2
    assert memory.stats()["resident_bytes"] == 0
    other = cupy.ndarray(100 * MiB)
    bytes_of(other)[-MiB:] = 7
    memory.swap_out(other).wait()
    with memory.pinned(array[200 * MiB :]):
        assert memory.block(array).pinned
        assert array.data.ptr == address
        for part in range(6):
            assert (bytes_of(array)[part * 50 * MiB :][:MiB] == part + 1).all()
    del array
    memory.swap_in(other).wait()
    assert (bytes_of(other)[-MiB:] == 7).all()
    assert memory.stats()["peak_charged_bytes"] <= 320 * MiB
    del other
    memory.drain()
    assert memory.stats()["live_bytes"] == memory.stats()["store_bytes"] == 0
""",
    )


def test_what_pinned_memory_cannot_hold_goes_to_a_file(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with swapmem.Manager("cuda:0", "64MiB", ".", "128MiB", True, host_memory="32MiB") as memory:
    arrays = [cupy.ndarray(4 * MiB) for _ in range(16)]
    for number, array in enumerate(arrays):
        bytes_of(array)[:] = number
        memory.swap_out(array).wait()
    tiers = memory.stats()["store_tiers"]
    assert [tier["name"] for tier in tiers] == ["pinned", "file"]
    assert tiers[1]["used_bytes"] > 0
    assert "; pinned " in memory.report() and "; file " in memory.report()
    for number, array in enumerate(arrays):
        memory.swap_in(array).wait()
        assert (bytes_of(array) == number).all()
        memory.swap_out(array).wait()
    del array, arrays
""",
    )


def test_nothing_is_swapped_out_for_others_that_was_not_offered(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as memory:
    arrays = [cupy.ndarray(16 * MiB) for _ in range(4)]
    try:
        cupy.ndarray(16 * MiB)
    except cupy.OutOfMemoryError as error:
        assert error.requested_bytes == 16 * MiB and error.budget_bytes == 64 * MiB
    else:
        raise AssertionError
    assert [memory.block(array).state for array in arrays] == ["resident"] * 4
    memory.engine.offer([arrays[0].data.ptr])
    arrays.append(cupy.ndarray(16 * MiB))
    assert memory.block(arrays[0]).state == "out"
    del arrays
""",
    )


def test_auto_takes_the_gpu_and_says_so(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with swapmem.Manager(device_memory="64MiB", host_memory="64MiB") as memory:
    assert memory.device == memory.stats()["device"] == "cuda:0"
    small = cupy.ndarray(1000)
    assert "cuda:0 (" in memory.report() and "is there)" in memory.report()
    assert "1000 B of small arrays in chunks of 2.0 MiB" in memory.report()
    del small
assert cupy.get_allocator() is cupy.raw_allocator
""",
    )


def test_one_manager_is_active_for_each_device(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with (
    swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as gpu,
    swapmem.Manager("host", "64MiB", ".") as host,
):
    array, on_gpu = np.ones(1 << 20), cupy.ndarray(MiB)
    assert host.block(array) is not None and gpu.block(array) is None
    assert gpu.block(on_gpu) is not None and host.block(on_gpu) is None
    other = swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB")
    try:
        other.__enter__()
    except swapmem.Error as error:
        assert "active on cuda:0" in str(error)
    else:
        raise AssertionError
    del array, on_gpu
""",
    )


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ("'cuda:77'", "DeviceError", "no GPU cuda:77; this process sees"),
        ("'cuda:0', '900TiB'", "OutOfMemory", "device_memory is 900.0 TiB, cuda:0 has"),
        ("'cuda:0', '64MiB', host_memory='900TiB'", "StoreError", "host_memory is 900.0 TiB; of"),
        ("'cuda:0', '1KiB', host_memory='64MiB'", "OutOfMemory", "smallest"),
        ("'cuda:0', '64MiB', checksum=True", "ValueError", "spill_dir"),
        ("'cuda:0', '64MiB', spill_bytes=1", "ValueError", "spill_dir"),
        ("'cuda:0', '64MiB', '/nowhere', host_memory='64MiB'", "StoreError", "nowhere"),
        ("'host', '64MiB', host_memory='64MiB'", "ValueError", "device_memory"),
    ],
)
def test_what_cannot_be_is_a_typed_error(
    arguments: str, error: str, says: str, tmp_path: Path
) -> None:
    said = run(
        tmp_path,
        f"""
try:
    swapmem.Manager({arguments})
except Exception as error:
    print(type(error).__name__, error)
""",
    )
    assert said.startswith(error)
    assert says in said


def test_without_cupy_the_gpu_is_refused_and_auto_is_the_host(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
sys.modules["cupy"] = None
try:
    swapmem.Manager("cuda:0", "64MiB")
except ImportError as error:
    print(error)
memory = swapmem.Manager("auto", "64MiB", ".", host_memory="64MiB")
assert memory.device == "host"
print(memory.report())
""",
    )
    assert "device cuda:0 needs CuPy: pip install 'swapmem[cuda13]'" in said
    assert "host (no GPU is used: device cuda:0 needs CuPy" in said


def test_without_a_driver_the_gpu_is_refused_and_auto_is_the_host(tmp_path: Path) -> None:
    program = """
import swapmem
try:
    swapmem.Manager("cuda:0")
except swapmem.DeviceError as error:
    print(error)
print(swapmem.Manager("auto", "64MiB", ".").report())
"""
    environment = {"SWAPMEM_CUDA_DRIVER": "/nowhere/libcuda.so.1", "PYTHONPATH": PYTHONPATH}
    result = run_python("-c", program, cwd=tmp_path, environment=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("/nowhere/libcuda.so.1") == 2
    assert "device   host (no GPU is used: " in result.stdout


def test_arrays_may_be_alive_when_the_interpreter_ends(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as memory:
    arrays = [cupy.ndarray(size) for size in (0, 1000, 4 * MiB)]
    memory.swap_out(arrays[2])
""",
    )


def test_a_manager_may_be_active_when_the_interpreter_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The system frees what is left; the copy under way has ended.
    monkeypatch.setenv("SWAPMEM_FAKE_CUDA_EXIT", "quiet")
    run(
        tmp_path,
        """
memory = swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB").__enter__()
arrays = [cupy.ndarray(size) for size in (0, 1000, 4 * MiB)]
memory.swap_out(arrays[2])
""",
    )


def test_a_forked_child_is_told_that_it_cannot_use_the_gpu(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import os
with swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as memory:
    arrays = [cupy.ndarray(4 * MiB), cupy.ndarray(1000)]
    child = os.fork()
    if child == 0:
        def said(call):
            try:
                call()
            except swapmem.DeviceError as error:
                print(error, flush=True)
        for call in (
            lambda: cupy.ndarray(MiB),
            lambda: cupy.ndarray(100),
            lambda: memory.swap_out(arrays[0]),
            memory.stats,
            memory.report,
            lambda: memory.block(arrays[0]),
        ):
            said(call)
        memory.drain()
        arrays.clear()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    memory.swap_out(arrays[0]).wait()
    arrays.clear()
""",
    )
    assert said.count("forkserver") == 6


def test_a_gpu_without_virtual_memory_management_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = {"ordinal": 0, "name": "Old GPU", "memory_bytes": 1, "granularity_bytes": 0, "vmm": False}
    monkeypatch.setattr(_core, "cuda_devices", lambda: [gpu])
    with pytest.raises(swapmem.DeviceError, match=r"cuda:0 \(Old GPU\) has no virtual memory"):
        devices.choose("cuda:0")
    assert devices.choose("auto").ordinal is None


STREAMS = """
import os

driver = ctypes.CDLL(os.environ["SWAPMEM_CUDA_DRIVER"])
class Range(ctypes.Structure):
    _fields_ = [
        ("address", ctypes.c_ulonglong), ("bytes", ctypes.c_size_t), ("write", ctypes.c_int)
    ]

def checked(result):
    assert result == 0, result

# As a program that uses CUDA has it.
context = ctypes.c_void_p()
checked(driver.cuInit(0))
checked(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
checked(driver.cuCtxPushCurrent_v2(context))

def new_stream():
    handle = ctypes.c_void_p()
    checked(driver.cuStreamCreate(ctypes.byref(handle), 1))
    return cupy.Stream(handle.value)

def end(*streams):
    for stream in streams:
        checked(driver.cuStreamDestroy_v2(ctypes.c_void_p(stream.ptr)))
    checked(driver.cuCtxPopCurrent_v2(ctypes.byref(context)))
    checked(driver.cuDevicePrimaryCtxRelease_v2(0))

def kernel(array):
    '''Writes an array on the current stream, some time.'''
    touched = Range(array.data.ptr, array.nbytes, 1)
    stream = ctypes.c_void_p(cupy.get_current_stream().ptr)
    checked(driver.fake_launch(
        stream, b"kernel", None, None, ctypes.byref(touched), 1, ctypes.c_double(0)
    ))
"""


def test_memory_goes_from_stream_to_stream_in_order(tmp_path: Path) -> None:
    # The fake driver reports two kernels at the same bytes that nothing puts in order.
    run(
        tmp_path,
        STREAMS
        + """
with swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as memory:
    streams = [new_stream(), new_stream(), cupy.Stream(0)]
    addresses = set()
    for round in range(12):
        with cupy.current(stream=streams[round % 3]):
            array = cupy.ndarray(16 * MiB)
            kernel(array)
            addresses.add(array.data.ptr)
        # Freed in a thread whose current stream is another: on the stream it was made on.
        with cupy.current(stream=streams[(round + 1) % 3]):
            del array
    assert len(addresses) < 12, "memory was not used again: the test tells nothing"
end(*streams[:2])
""",
    )


def test_a_swap_waits_for_the_work_of_the_stream_it_is_asked_on(tmp_path: Path) -> None:
    run(
        tmp_path,
        STREAMS
        + """
with swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as memory:
    stream = new_stream()
    with cupy.current(stream=stream):
        array = cupy.ndarray(16 * MiB)
        for _ in range(3):
            kernel(array)
            memory.swap_out(array).wait()
            memory.swap_in(array).wait()
            memory.engine.begin_op("op", [array.data.ptr], stream.ptr)
            kernel(array)
            memory.engine.end_op([], stream.ptr)
        del array
end(stream)
""",
    )


def test_what_another_threads_default_stream_used_is_handed_out_in_order(tmp_path: Path) -> None:
    # Handle 2 is another stream in each thread.
    run(
        tmp_path,
        STREAMS
        + """
import threading

def make(size, made):
    checked(driver.cuCtxPushCurrent_v2(context))
    with cupy.current(stream=cupy.Stream(2)):
        array = cupy.ndarray(size)
        kernel(array)
        made.append(array)
    checked(driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())))

with swapmem.Manager("cuda:0", "64MiB", host_memory="64MiB") as memory:
    addresses = set()
    for _ in range(4):
        for size in (16 * MiB, 400_000):
            made = []
            thread = threading.Thread(target=make, args=(size, made))
            thread.start()
            thread.join()
            addresses.add(made[0].data.ptr)
            # The array ends in this thread.
            made.clear()
        memory.trim()
    assert len(addresses) < 8, "memory was not used again: the test tells nothing"
end()
""",
    )
