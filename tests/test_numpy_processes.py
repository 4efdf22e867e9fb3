"""Processes: forked children, interrupts and kills."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from python_runs import RunPython, python_environment

FORK = """
import os, sys
import numpy as np
import swapmem

MiB = 1 << 20
with swapmem.Manager(device_memory="8MiB", spill_dir=sys.argv[1]) as memory:
    here, away = np.full(MiB, 1, np.uint8), np.full(MiB, 2, np.uint8)
    clean = np.full(MiB, 3, np.uint8)
    memory.swap_out(clean).wait()
    memory.swap_in(clean).wait()
    memory.swap_out(away).wait()
    child = os.fork()
    if child == 0:
        {child}
    _, status = os.waitpid(child, 0)
    assert np.all(here == 1) and np.all(away == 2) and np.all(clean == 3)
    memory.swap_out(here).wait()
    assert np.all(here == 1)
    memory.engine.check_invariants()
    del here, away, clean
print(os.waitstatus_to_exitcode(status))
"""


def forked(child: str) -> str:
    return FORK.replace("{child}", child.replace("\n", "\n        "))


def test_a_forked_child_reads_and_writes_resident_arrays_of_its_own(run_python: RunPython) -> None:
    result = run_python(
        forked(
            "right = np.all(here == 1) and np.all(clean == 3)\n"
            "here[:] = 8; clean[:] = 9\n"
            "right = right and np.all(here == 8) and np.all(clean == 9)\n"
            "os._exit(0 if right else 1)"
        )
    )
    assert (result.returncode, result.stdout.strip()) == (0, "0"), result.stderr


@pytest.mark.parametrize("touch", ["away.sum()", "away.fill(5)", "os.write(1, away)"])
def test_a_forked_child_never_sees_wrong_bytes_of_a_swapped_out_array(
    run_python: RunPython, touch: str
) -> None:
    result = run_python(forked(f"try:\n    {touch}\nexcept OSError:\n    os._exit(7)\nos._exit(0)"))
    assert result.returncode == 0, result.stderr
    if "write" in touch:
        assert result.stdout.strip() == "7"
    else:
        assert result.stdout.strip() == str(-signal.SIGSEGV)
        assert "swapmem: a forked child touched an array that was swapped out" in result.stderr


def test_a_forked_child_makes_and_frees_arrays_and_ends_as_usual(run_python: RunPython) -> None:
    result = run_python(
        forked(
            "new = np.arange(MiB)\n"
            "assert new.sum() == MiB * (MiB - 1) // 2\n"
            "del new, here, away, clean\n"
            "sys.exit(3)"
        )
    )
    assert (result.returncode, result.stdout.strip()) == (0, "3"), result.stderr


MULTIPROCESSING = """
import multiprocessing, sys
import numpy as np
import swapmem

def double(array):
    return array * 2

if __name__ == "__main__":
    with swapmem.Manager(device_memory="8MiB", spill_dir=sys.argv[1]) as memory:
        busy = [np.full(1 << 20, i, np.uint8) for i in range(16)]
        context = multiprocessing.get_context(sys.argv[2])
        with context.Pool(2) as pool:
            doubled = pool.map(double, [np.full(100, i) for i in range(8)])
        assert all(np.all(array == 2 * i) for i, array in enumerate(doubled))
        assert all(np.all(array == i) for i, array in enumerate(busy))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_beside_a_manager(tmp_path: Path, method: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    subprocess.run(
        [sys.executable, str(program), str(tmp_path), method],
        env=python_environment(),
        check=True,
        timeout=60,
    )


ENDLESS = """
import signal
import sys
import numpy as np
import swapmem

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
with swapmem.Manager(device_memory="8MiB", spill_dir=sys.argv[1]) as memory:
    arrays = [np.full(1 << 20, i, np.uint8) for i in range(32)]
    print("ready", flush=True)
    while True:
        for array in arrays:
            array += 1
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("userfaultfd", ["", "0"], ids=["userfaultfd if allowed", "none"])
def test_a_signal_in_mid_run_ends_the_process_and_leaves_no_file(
    tmp_path: Path, number: signal.Signals, userfaultfd: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)],
        env=python_environment(userfaultfd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert os.listdir(tmp_path) == []


CIRCLE = """
import sys
import numpy as np
import swapmem

with swapmem.Manager(device_memory="8MiB", spill_dir=sys.argv[1]):
    arrays = [np.full(3 << 20, value, np.uint8) for value in range(3)]
    np.add(arrays[0], arrays[1], out=arrays[2])
print("not reached")
"""


def test_arrays_of_one_call_that_do_not_fit_together_end_with_a_message_not_a_hang(
    run_python: RunPython,
) -> None:
    result = run_python(CIRCLE)
    assert result.returncode == -signal.SIGSEGV
    assert "do not fit the budget of 8388608 bytes" in result.stderr
