"""Arrays end anywhere: after their manager, in another thread, in a collection, at exit."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from python_runs import RunPython

import swapmem

MiB = 1 << 20


def filled(value: int, size_bytes: int = MiB) -> np.ndarray:
    return np.full(size_bytes, value, np.uint8)


@pytest.mark.parametrize("out", [False, True], ids=["resident", "out"])
def test_an_array_outlives_its_manager(tmp_path: Path, out: bool) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path) as memory:
        a = filled(4)
        if out:
            memory.swap_out(a).wait()
    del memory
    gc.collect()
    assert int(a.min()) == int(a.max()) == 4
    a += 1
    assert int(a.sum()) == 5 * MiB


def test_an_array_that_outlives_its_manager_is_freed_into_it(tmp_path: Path) -> None:
    with swapmem.Manager(device_memory="8MiB", spill_dir=tmp_path) as memory:
        a = filled(4)
        memory.swap_out(a).wait()
    assert memory.stats()["store_bytes"] == MiB
    del a
    stats = memory.stats()
    assert stats["store_bytes"] == stats["live_bytes"] == stats["charged_bytes"] == 0


def test_an_array_is_freed_in_another_thread(memory: swapmem.Manager) -> None:
    held = [filled(1), filled(2)]
    memory.swap_out(held[0]).wait()
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert memory.stats()["live_bytes"] == 0
    memory.engine.check_invariants()


@pytest.mark.parametrize("out", [False, True], ids=["resident", "out"])
def test_an_array_in_a_cycle_is_freed_by_a_collection(memory: swapmem.Manager, out: bool) -> None:
    cycle: dict[str, object] = {"array": filled(1)}
    cycle["cycle"] = cycle
    if out:
        memory.swap_out(cycle["array"]).wait()  # type: ignore[arg-type]
    del cycle
    assert memory.stats()["live_bytes"] == MiB
    gc.collect()
    assert memory.stats()["live_bytes"] == 0


def test_freeing_an_array_that_is_on_its_way_is_safe(memory: swapmem.Manager) -> None:
    for _ in range(50):
        a, b = filled(1), filled(2)
        memory.swap_out(b).wait()
        memory.swap_out(a)
        memory.swap_in(b)
        del a, b
        memory.engine.check_invariants()
    memory.drain()
    assert memory.stats()["live_bytes"] == memory.stats()["store_bytes"] == 0


AT_EXIT = """
import sys
import numpy as np
import swapmem

memory = swapmem.Manager(device_memory="8MiB", spill_dir=sys.argv[1])
if sys.argv[2] == "inside":
    memory.__enter__()
    arrays = [np.full(1 << 20, i, np.uint8) for i in range(16)]
else:
    with memory:
        arrays = [np.full(1 << 20, i, np.uint8) for i in range(16)]

class Last:
    def __del__(self):
        assert [int(a[-1]) for a in self.arrays] == list(range(16))

last = Last()
last.arrays = arrays
last.cycle = last
tickets = [memory.swap_out(a) for a in arrays]
if sys.argv[3] == "no manager":
    del memory, tickets
print("end")
"""


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("manager", ["manager", "no manager"])
def test_arrays_that_live_at_exit_do_no_harm(
    run_python: RunPython, where: str, manager: str
) -> None:
    result = run_python(AT_EXIT, where, manager)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")


BUDGET = """
import sys
import numpy as np
import swapmem

MiB = 1 << 20
CHUNK = 4 * MiB
BUDGET = 64 * MiB

def status_bytes(key):
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(key + ":"))
    return int(line.split()[1]) << 10

with swapmem.Manager(device_memory=BUDGET, spill_dir=sys.argv[1]) as memory:
    before = status_bytes("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # VmHWM starts here
    arrays = [np.full(CHUNK // 4, i, np.int32) for i in range(4 * BUDGET // CHUNK)]
    for _ in range(2):
        for array in arrays:
            array += 1
    total = sum(int(array.sum()) for array in arrays)
    grown = status_bytes("VmHWM") - before
    stats = memory.stats()
assert total == CHUNK // 4 * sum(i + 2 for i in range(len(arrays)))
assert stats["peak_live_bytes"] >= 4 * BUDGET
assert stats["peak_charged_bytes"] <= BUDGET
assert stats["swap_out_bytes"] >= 3 * BUDGET
assert BUDGET // 2 < grown <= BUDGET + 64 * MiB, grown
print("end")
"""


def test_a_program_with_four_times_the_budget_stays_within_it(run_python: RunPython) -> None:
    result = run_python(BUDGET)
    assert (result.returncode, result.stdout) == (0, "end\n"), result.stderr
